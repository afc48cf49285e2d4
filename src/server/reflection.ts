import {
  create,
  type DescEnum,
  type DescExtension,
  type DescFile,
  type DescMessage,
  type DescService,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "../../gen/google/rpc/error_details_pb.js";
import {
  ServerReflection,
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.js";
import { file_holdfast_v1_error_reason } from "../../gen/holdfast/v1/error_reason_pb.js";

type NamedType = DescMessage | DescEnum | DescExtension | DescService;
type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/** Answers the questions of the gRPC reflection protocol. */
export interface Reflection {
  /** `/package.Service/Method` of each version. The messages of both versions are the same on the wire. */
  readonly paths: readonly string[];
  /** Answers a serialised request with a serialised response. Throws when the request cannot be parsed. */
  answer(requestBytes: Uint8Array): Uint8Array;
}

/**
 * Describes the given services, and itself, by the descriptors in the generated code. Imports and options are served too:
 * tools see even the validation rules.
 */
export function createReflection(services: readonly DescService[]): Reflection {
  const versions = [ServerReflection, ServerReflectionAlpha];
  const serviceNames = [...services, ...versions].map(({ typeName }) => typeName).sort();
  const ownFiles = [...services, ...versions].map(({ file }) => file);
  // Nothing imports the error details and their reasons: they travel in an Any, and tools can only show them when they find
  // them here.
  const ofRefusals = [file_google_rpc_error_details, file_holdfast_v1_error_reason];
  const files = uniqueFiles([...ownFiles, ...ofRefusals].flatMap(withImports));
  const filesByName = new Map(files.map((file) => [file.proto.name, file]));
  const filesBySymbol = new Map(files.flatMap((file) => symbolsOf(file).map((symbol) => [symbol, file] as const)));
  const extensions = files.flatMap(typesOf).filter((type) => type.kind === "extension");

  function answer({ messageRequest: question }: ServerReflectionRequest): Answer {
    switch (question.case) {
      case "fileByFilename":
        return fileAndImports(filesByName.get(question.value), question.value);
      case "fileContainingSymbol":
        return fileAndImports(filesBySymbol.get(question.value), question.value);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = question.value;
        const extension = extensions.find(
          ({ extendee, number }) => extendee.typeName === containingType && number === extensionNumber,
        );
        return fileAndImports(extension?.file, `extension ${extensionNumber} of ${containingType}`);
      }
      case "allExtensionNumbersOfType": {
        const baseTypeName = question.value;
        if (!filesBySymbol.has(baseTypeName)) {
          return failure(Code.NotFound, `not found: ${baseTypeName}`);
        }
        const extensionNumber = extensions
          .filter(({ extendee }) => extendee.typeName === baseTypeName)
          .map(({ number }) => number);
        return { case: "allExtensionNumbersResponse", value: { baseTypeName, extensionNumber } };
      }
      case "listServices":
        return { case: "listServicesResponse", value: { service: serviceNames.map((name) => ({ name })) } };
      default:
        return failure(Code.InvalidArgument, "the request asks for nothing that is known here");
    }
  }

  return {
    paths: versions.map(({ typeName, method }) => `/${typeName}/${method.serverReflectionInfo.name}`),
    answer: (requestBytes) => {
      const originalRequest = fromBinary(ServerReflectionRequestSchema, requestBytes);
      const messageResponse = answer(originalRequest);
      const { host: validHost } = originalRequest;
      const response = create(ServerReflectionResponseSchema, { validHost, originalRequest, messageResponse });
      return toBinary(ServerReflectionResponseSchema, response);
    },
  };
}

/** The file asked for comes first, and every other after those that import it. */
function fileAndImports(file: DescFile | undefined, what: string): Answer {
  if (file === undefined) {
    return failure(Code.NotFound, `not found: ${what}`);
  }
  const files = withImports(file).toReversed();
  const fileDescriptorProto = files.map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

function failure(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}

/** The file after everything that it imports, directly or not. */
function withImports(file: DescFile): DescFile[] {
  return uniqueFiles([...file.dependencies.flatMap(withImports), file]);
}

/** Each name once, in the order of their first appearance. */
function uniqueFiles(files: readonly DescFile[]): DescFile[] {
  return [...new Map(files.map((file) => [file.proto.name, file])).values()];
}

function typesOf(file: DescFile): NamedType[] {
  return [...nestedTypes(file)];
}

/** The fully qualified names of everything that a file declares. */
function symbolsOf(file: DescFile): string[] {
  return typesOf(file).flatMap((type) => [type.typeName, ...memberNames(type)]);
}

function memberNames(type: NamedType): string[] {
  switch (type.kind) {
    case "service":
      return type.methods.map(({ name }) => `${type.typeName}.${name}`);
    case "message":
      return [...type.fields, ...type.oneofs].map(({ name }) => `${type.typeName}.${name}`);
    case "enum": {
      // The values of an enum are its siblings, not its children.
      const scope = type.typeName.slice(0, type.typeName.lastIndexOf(".") + 1);
      return type.values.map(({ name }) => scope + name);
    }
    case "extension":
      return [];
  }
}
