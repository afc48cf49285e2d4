import type { DataFolderLock } from "./lock-data-folder.ts";
import type { SupervisedServer } from "./supervise.ts";

/** Where a server keeps its data and whom it tells what. */
export interface ServerOptions {
  /** The data folder; made when missing. The server uses a folder and a log file of its own name in it. */
  readonly dataDir: string;
  /** Called with a few words for each step that a person may have to wait for. Default: nobody is told. */
  readonly onProgress?: (message: string) => void;
  /** Called once, with one line, when the server ends without having been stopped. */
  readonly onExit?: (message: string) => void;
}

/**
 * The `stop` of a server that is up: waits for its end, then lets the data folder go. Until it is called the server does
 * not keep this process alive.
 */
export function createStop(server: SupervisedServer, lock: DataFolderLock, onEndedAlone: (how: string) => void) {
  let stopping: Promise<void> | undefined;
  server.unref();
  void server.ended.then((how) => {
    if (stopping === undefined) onEndedAlone(how);
  });
  return (): Promise<void> => {
    stopping ??= server.stop().finally(() => lock.release());
    return stopping;
  };
}
