/** A server that calls come in through. */
export interface Door {
  /** Begins to listen; gives the port. Rejects with one line for the operator. */
  listen(): Promise<number>;
  /**
   * Takes nothing new on, lets calls finish and streams end, and resolves when all connections are closed; those still
   * open after `graceMs` are cut. Streams of both doors end when either drains.
   */
  drain(graceMs: number): Promise<void>;
}
