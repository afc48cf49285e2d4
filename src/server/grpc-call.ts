import { constants, type Http2Session, type ServerHttp2Stream } from "node:http2";
import type { PeerCertificate } from "node:tls";
import { fromBinary, type Message } from "@bufbuild/protobuf";
import { Metadata, type ServerInterceptingCallInterface, status } from "@grpc/grpc-js";
import type { DoorLimits } from "../config.ts";
import { Refusal } from "../refusal.ts";
import { Call } from "./call.ts";
import type { Dispatcher, Endpoint } from "./dispatcher.ts";
import { toCallError, toStatusBytes, UnexpectedMessages } from "./errors.ts";
import { writeMessage } from "./message-writer.ts";
import type { Reader, Readers } from "./readers.ts";
import type { PacedRefusal, RefusalPace } from "./refusal-pace.ts";
import { peerCertificateOf } from "./tls-files.ts";
import { validationFailed } from "./validation-interceptor.ts";

const OK = { code: status.OK, details: "OK" };

/** What calls on the gRPC door need. */
export interface GrpcCallDeps {
  readonly dispatcher: Dispatcher;
  readonly readers: Readers;
  readonly refusalPace: RefusalPace;
  /** Aborted when a connection is too old. */
  endingOf(session: Http2Session | undefined): AbortSignal;
  readonly limits: Pick<DoorLimits, "arrivalMs" | "unreadBytes">;
}

/** What the two kinds of calls on the gRPC door have in common. It listens to the transport itself. */
abstract class GrpcCall extends Call implements Reader, PacedRefusal {
  abstract readonly hasUnread: boolean;
  takenCount = 0;
  seenTakenCount = -1;
  isOver = false;
  protected readonly dispatcher: Dispatcher;
  protected readonly readers: Readers;
  protected readonly refusalPace: RefusalPace;
  protected readonly transport: ServerInterceptingCallInterface;
  #metadata: Metadata | undefined;
  #request: Buffer | undefined;
  #hasArrived = false;
  #overload: Refusal | undefined;

  constructor(
    endpoint: Endpoint,
    { dispatcher, readers, refusalPace }: GrpcCallDeps,
    transport: ServerInterceptingCallInterface,
    draining = dispatcher.draining,
  ) {
    super(endpoint, draining);
    this.dispatcher = dispatcher;
    this.readers = readers;
    this.refusalPace = refusalPace;
    this.transport = transport;
  }

  /** Begins to read the request. */
  start(): void {
    this.transport.start(this);
  }

  header(name: string): string | undefined {
    const values = this.#metadata?.get(name) ?? [];
    return values.length === 0 ? undefined : values.join(", ");
  }

  override peerCertificate(): PeerCertificate | undefined {
    // getAuthContext() takes the certificate apart for every call, the stream leads to where that is done once.
    return peerCertificateOf(this.session?.socket);
  }

  onReceiveMetadata(metadata: Metadata): void {
    this.#metadata = metadata;
    const deadlineMs = Number(this.transport.getDeadline());
    // From here on, so that a caller that never sends its request is not waited for either.
    this.dispatcher.begin(this, deadlineMs === Number.POSITIVE_INFINITY ? undefined : deadlineMs - Date.now());
    this.transport.startRead();
  }

  onReceiveMessage(request: Buffer): void {
    if (this.#request !== undefined) {
      this.#refuseMessageCount("more than one");
      return;
    }
    this.#request = request;
    this.transport.startRead();
  }

  onReceiveHalfClose(): void {
    this.#hasArrived = true;
    if (this.#request === undefined) {
      this.#refuseMessageCount("no");
    } else if (!this.ended) {
      this.run();
    }
  }

  /** Comes at the end of every call, however it ended, when all of it was read. */
  onCancel(): void {
    this.isOver = true;
    this.readers.remove(this);
    this.cancel();
  }

  /**
   * Callers of gRPC see CANCELLED, which none repeats by itself: it would not read the next answer either. What is unread
   * cannot be told from what is lost, so a watch goes on after it.
   */
  giveUp(): void {
    streamOf(this.transport)?.close(constants.NGHTTP2_CANCEL);
  }

  protected abstract run(): void;

  /** Parses here and not in grpc-js, which would answer INTERNAL to bytes that are the caller's fault. */
  protected readonly read = (): Message => {
    const { input } = this.method;
    try {
      return fromBinary(input, this.#request as Buffer);
    } catch {
      throw validationFailed([{ field: "", description: `the request is not a serialised ${input.typeName}` }]);
    }
  };

  protected serialise(response: Message): Buffer {
    const { buffer, byteOffset, byteLength } = writeMessage(this.method.output, response);
    return Buffer.from(buffer, byteOffset, byteLength);
  }

  get session(): Http2Session | undefined {
    return sessionOf(this.transport);
  }

  protected override sendFailure(error: unknown): void {
    if (error instanceof Refusal && error.reason === "OVERLOADED") {
      this.#overload = error;
      this.refusalPace.add(this);
    } else {
      this.#sendStatus(error);
    }
  }

  /** Sends the refusal of a call that is one too many. */
  sendNow(): void {
    this.#sendStatus(this.#overload);
  }

  #sendStatus(error: unknown): void {
    const failure = toCallError(error);
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(failure.metadata ?? {})) {
      metadata.set(name, value);
    }
    if (failure.details.length > 0) {
      metadata.set("grpc-status-details-bin", Buffer.from(toStatusBytes(failure)));
    }
    this.transport.sendStatus({ code: Number(failure.code), details: failure.message, metadata });
    if (!this.#hasArrived) {
      // Nobody reads the rest; a stream that stays half open would hold its connection.
      streamOf(this.transport)?.close(constants.NGHTTP2_NO_ERROR);
    }
  }

  #refuseMessageCount(count: string): void {
    this.fail(new UnexpectedMessages(`the call carries ${count} request message`));
  }
}

/** A unary call on the gRPC door. */
export class GrpcUnaryCall extends GrpcCall {
  /** Looked at only after the answer was sent. */
  readonly hasUnread = true;

  protected override run(): void {
    this.dispatcher.answer(this, this.read);
  }

  protected override sendResponse(response: Message): void {
    this.transport.sendMessage(this.serialise(response), ignore);
    // Not in the callback of the message: response and status leave in one write.
    this.transport.sendStatus(OK);
    this.refusalPace.answered();
    this.readers.add(this);
  }
}

/** A server stream on the gRPC door. */
export class GrpcStreamCall extends GrpcCall {
  readonly #limits: GrpcCallDeps["limits"];
  #arrival: NodeJS.Timeout | undefined;
  #unsentBytes = 0;
  #resume: (() => void) | undefined;

  constructor(endpoint: Endpoint, deps: GrpcCallDeps, transport: ServerInterceptingCallInterface) {
    const session = sessionOf(transport);
    super(endpoint, deps, transport, AbortSignal.any([deps.dispatcher.draining, deps.endingOf(session)]));
    this.#limits = deps.limits;
  }

  get hasUnread(): boolean {
    return this.#unsentBytes > 0;
  }

  override onReceiveMetadata(metadata: Metadata): void {
    // A stream need not have a deadline that bounds it.
    this.#arrival = setTimeout(() => this.expire(), this.#limits.arrivalMs);
    super.onReceiveMetadata(metadata);
  }

  override onReceiveHalfClose(): void {
    clearTimeout(this.#arrival);
    super.onReceiveHalfClose();
  }

  override onCancel(): void {
    clearTimeout(this.#arrival);
    super.onCancel();
    this.#resume?.();
  }

  protected override run(): void {
    void this.#pump();
  }

  protected override sendFailure(error: unknown): void {
    super.sendFailure(error);
    this.#resume?.();
  }

  protected override sendResponse(): void {
    throw new Error("a stream has no single response");
  }

  async #pump(): Promise<void> {
    const responses = await this.#open();
    if (responses === undefined) {
      return;
    }
    this.readers.add(this);
    try {
      // At once: many clients call a stream established when its headers arrive, and the first message may take long.
      this.transport.sendMetadata(new Metadata());
      for (let message = await responses.next(); message !== undefined; message = await responses.next()) {
        await this.#write(this.serialise(message));
      }
      if (this.close()) {
        this.transport.sendStatus(OK);
      }
    } catch (error) {
      this.dispatcher.fail(this, error);
    } finally {
      responses.stop();
    }
  }

  async #open() {
    try {
      return await this.dispatcher.stream(this, this.read);
    } catch (error) {
      this.dispatcher.fail(this, error);
      return undefined;
    }
  }

  /** Returns a promise only when the reader has to catch up first. */
  #write(bytes: Buffer): Promise<void> | undefined {
    this.#unsentBytes += bytes.byteLength;
    this.transport.sendMessage(bytes, () => {
      this.#unsentBytes -= bytes.byteLength;
      this.takenCount += 1;
      if (this.#unsentBytes <= this.#limits.unreadBytes) {
        this.#resume?.();
      }
    });
    if (this.#unsentBytes <= this.#limits.unreadBytes || this.ended) {
      return undefined;
    }
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }
}

/** grpc-js keeps it to itself; undefined when there is none any more. */
export function streamOf(transport: ServerInterceptingCallInterface): ServerHttp2Stream | undefined {
  return (transport as unknown as { readonly stream?: ServerHttp2Stream }).stream;
}

/** What a call came over; undefined when it is gone. */
function sessionOf(transport: ServerInterceptingCallInterface): Http2Session | undefined {
  return streamOf(transport)?.session;
}

function ignore(): void {}
