// Questions that are asked again and again: one at a time, and only while somebody sees the page.

/** Asks by `ask()`, which never fails, between `start()` and `stop()`: at once, when the tab is
 * shown again, and `everyMs()` after each answer; where that is 0, once, and when it is told to
 * (`now`). While the tab is hidden nothing is asked: what would be is when it is shown. */
export function createRepeater(ask, everyMs) {
  let isOn = false;
  let asking = 0;
  let timer = null;
  // Something was to be asked while the tab was hidden.
  let isOwed = false;

  const run = async () => {
    clearTimeout(timer);
    if (document.hidden) {
      isOwed = true;
      return;
    }
    isOwed = false;
    asking += 1;
    await ask();
    asking -= 1;
    clearTimeout(timer);
    if (isOn && !document.hidden && asking === 0 && everyMs() > 0) timer = setTimeout(run, everyMs());
  };
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    // A question that is under way goes on by itself.
    if (isOn && !document.hidden && asking === 0 && (isOwed || everyMs() > 0)) run();
  });
  return {
    now: run,
    start() {
      isOn = true;
      run();
    },
    stop() {
      isOn = false;
      clearTimeout(timer);
    },
  };
}
