/** Questions to another process, each with a number, so that each gets its own answer. */
export interface Questions {
  /** Sends a question by its number; resolves with the answer, rejects when there is none in time. */
  ask(send: (number: number) => void): Promise<string>;
  /** Gives the answer to a question. One that nobody waits for any more is dropped. */
  answer(number: number, text: string): void;
}

/** What questions need. */
export interface QuestionsOptions {
  /** How long an answer is waited for, in milliseconds. */
  readonly timeoutMs: number;
  /** The message of the error when it does not come. */
  readonly unanswered: string;
}

/** Asks nothing yet. */
export function createQuestions({ timeoutMs, unanswered }: QuestionsOptions): Questions {
  const waiting = new Map<number, (text: string) => void>();
  let askedCount = 0;
  return {
    ask: (send) => {
      askedCount += 1;
      const number = askedCount;
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const timer = setTimeout(() => reject(new Error(unanswered)), timeoutMs);
      waiting.set(number, resolve);
      send(number);
      return promise.finally(() => {
        clearTimeout(timer);
        waiting.delete(number);
      });
    },
    answer: (number, text) => waiting.get(number)?.(text),
  };
}
