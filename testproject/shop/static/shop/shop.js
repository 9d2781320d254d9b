// Every element with data-refresh fetches its own content anew each half second, until that says data-finished.
const EVERY = 500;

async function fetched(address) {
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    return answer.ok ? await answer.text() : "";
  } catch {
    return ""; // The site is away for a moment: what is shown stays.
  }
}

async function refresh(element, shown) {
  const text = await fetched(element.dataset.refresh);
  if (text && text !== shown) element.innerHTML = text;
  const isFinished = element.querySelector("[data-finished]") && !element.querySelector(".dot.silent");
  if (!isFinished) setTimeout(refresh, EVERY, element, text || shown);
}

for (const element of document.querySelectorAll("[data-refresh]")) setTimeout(refresh, EVERY, element, "");
