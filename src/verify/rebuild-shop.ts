import type { RebuildMode } from "../shop/open-shop.ts";
import type { RebuildProgress } from "../shop/progress.ts";
import type { Shop } from "../shop/shop.ts";

/** How far a forced rebuild is. */
export interface Rebuilding extends RebuildProgress {
  readonly done: boolean;
}

/** How often the caller hears how far it is, in milliseconds. */
const progressMs = 200;

/** Rebuilds a shop's live state from Postgres. It goes on when nobody listens any more. */
export async function* rebuildShop(shop: Shop, mode: RebuildMode = "keep all"): AsyncGenerator<Rebuilding> {
  let progress: RebuildProgress | undefined;
  let told: RebuildProgress | undefined;
  const rebuilt = shop.rebuild((now) => {
    progress = now;
  }, mode);
  let isOver = false;
  const over = rebuilt.finally(() => {
    isOver = true;
  });
  // What goes wrong is told below, if anybody listens.
  over.catch(() => undefined);
  while (!isOver) {
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      over,
      new Promise((resolve) => {
        timer = setTimeout(resolve, progressMs);
      }),
    ]).finally(() => clearTimeout(timer));
    if (!isOver && progress !== undefined && progress !== told) {
      told = progress;
      yield { ...progress, done: false };
    }
  }
  const { epoch } = await rebuilt;
  const totalCount = progress?.totalCount ?? 0;
  yield { epoch, loadedCount: totalCount, totalCount, done: true };
}
