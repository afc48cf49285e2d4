import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createQuestions } from "../../src/processes/questions.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function create() {
  const questions = createQuestions({ timeoutMs: 1000, unanswered: "nobody answers" });
  const sent: number[] = [];
  return { ...questions, sent, ask: () => questions.ask((number) => sent.push(number)) };
}

describe("questions", () => {
  test("each get their own answer, in whatever order these come", async () => {
    const { ask, answer, sent } = create();
    const asked = [ask(), ask(), ask()];
    expect(new Set(sent).size).toBe(3);
    for (const number of sent.toReversed()) answer(number, `answer to ${number}`);
    expect(await Promise.all(asked)).toEqual(sent.map((number) => `answer to ${number}`));
    expect(vi.getTimerCount()).toBe(0);
  });

  test("that nobody answers in time are rejected, and an answer that comes later is dropped", async () => {
    const { ask, answer, sent } = create();
    const late = ask();
    const outcome = expect(late).rejects.toThrow("nobody answers");
    await vi.advanceTimersByTimeAsync(999);
    const next = ask();
    await vi.advanceTimersByTimeAsync(1);
    await outcome;
    answer(sent[0] as number, "too late");
    answer(sent[1] as number, "in time");
    expect(await next).toBe("in time");
  });
});
