import {
  create,
  createFileRegistry,
  type DescEnum,
  type DescExtension,
  type DescFile,
  type DescMessage,
  type DescService,
  type FileRegistry,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code } from "@connectrpc/connect";
import {
  ServerReflection,
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.js";

type Answer = NonNullable<MessageInitShape<typeof ServerReflectionResponseSchema>["messageResponse"]>;

/** Answers the questions of the gRPC reflection protocol. */
export interface Reflection {
  /** `/package.Service/Method` of each version. The messages of both versions are the same on the wire. */
  readonly paths: readonly string[];
  /** Answers a serialised request with a serialised response. Throws when the request cannot be parsed. */
  answer(requestBytes: Uint8Array): Uint8Array;
}

/**
 * Serves the descriptors that the generated code carries, with imports and options: tools see even the validation rules.
 * `otherFiles` are serialised FileDescriptorProtos of services that are served without generated code, after their imports.
 */
export function createReflection(services: readonly DescService[], otherFiles: readonly Uint8Array[]): Reflection {
  const versions = [ServerReflection, ServerReflectionAlpha];
  const roots = [...services, ...versions].map(({ file }) => file);
  const registry = createRegistry(roots, otherFiles);
  const symbols = indexSymbols(registry);
  const serviceNames = [...registry].filter(({ kind }) => kind === "service").map(({ typeName }) => typeName);

  function answer({ messageRequest: question }: ServerReflectionRequest): Answer {
    switch (question.case) {
      case "fileByFilename":
        return fileAndImports(registry.getFile(question.value), question.value);
      case "fileContainingSymbol":
        return fileAndImports(symbols.get(question.value), question.value);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = question.value;
        const extension = extensionsOf(registry, containingType).find(({ number }) => number === extensionNumber);
        return fileAndImports(extension?.file, `extension ${extensionNumber} of ${containingType}`);
      }
      case "allExtensionNumbersOfType":
        return extensionNumbers(registry, question.value);
      case "listServices": {
        const service = serviceNames.toSorted().map((name) => ({ name }));
        return { case: "listServicesResponse", value: { service } };
      }
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

function createRegistry(roots: readonly DescFile[], otherFiles: readonly Uint8Array[]): FileRegistry {
  const protos = new Map<string, FileDescriptorProto>();
  for (const file of roots.flatMap(withImports)) {
    protos.set(file.proto.name, file.proto);
  }
  for (const proto of otherFiles.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes))) {
    protos.set(proto.name, proto);
  }
  return createFileRegistry(create(FileDescriptorSetSchema, { file: [...protos.values()] }));
}

/** The file after everything it imports, each once: the order in which descriptors can be built. */
function withImports(file: DescFile): DescFile[] {
  return [...new Set([...file.dependencies.flatMap(withImports), file])];
}

/** Everything that has a fully qualified name, and the file it stands in. */
function indexSymbols(registry: FileRegistry): Map<string, DescFile> {
  const symbols = new Map<string, DescFile>();
  for (const file of registry.files) {
    for (const type of nestedTypes(file)) {
      symbols.set(type.typeName, file);
      for (const name of memberNames(type)) {
        symbols.set(name, file);
      }
    }
  }
  return symbols;
}

function memberNames(type: DescMessage | DescEnum | DescExtension | DescService): string[] {
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

function extensionsOf(registry: FileRegistry, containingType: string): DescExtension[] {
  return [...registry].flatMap((type) =>
    type.kind === "extension" && type.extendee.typeName === containingType ? [type] : [],
  );
}

function extensionNumbers(registry: FileRegistry, baseTypeName: string): Answer {
  if (registry.getMessage(baseTypeName) === undefined) {
    return failure(Code.NotFound, `not found: ${baseTypeName}`);
  }
  const extensionNumber = extensionsOf(registry, baseTypeName).map(({ number }) => number);
  return { case: "allExtensionNumbersResponse", value: { baseTypeName, extensionNumber } };
}

function fileAndImports(file: DescFile | undefined, what: string): Answer {
  if (file === undefined) {
    return failure(Code.NotFound, `not found: ${what}`);
  }
  // The file asked for comes first.
  const files = withImports(file).toReversed();
  const fileDescriptorProto = files.map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto));
  return { case: "fileDescriptorResponse", value: { fileDescriptorProto } };
}

function failure(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}
