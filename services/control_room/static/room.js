// Keeps the regions marked `data-live` fresh by reading the page again, and forms from being sent twice.
// Without it every page still works: it just does not change by itself.

const EVERY_MS = 3000;
const live = document.getElementById("live");
let tag = null;
let lastRead = Date.now();
let failing = false;

const isBeingEdited = (region) => {
  const active = document.activeElement;
  return region.contains(active) && active.matches("input, select, textarea, [contenteditable]");
};

const say = (text) => {
  if (live && live.textContent !== text) live.textContent = text;
};

function replace(region, fresh) {
  if (region.innerHTML === fresh.innerHTML || isBeingEdited(region)) return;
  const open = new Set([...region.querySelectorAll("details[open][id]")].map((one) => one.id));
  const active = region.contains(document.activeElement) ? document.activeElement : null;
  const href = active && active.getAttribute("href");
  region.replaceChildren(...document.importNode(fresh, true).childNodes);
  for (const one of region.querySelectorAll("details[id]")) if (open.has(one.id)) one.open = true;
  if (href) {
    const again = [...region.querySelectorAll("a[href]")].find((one) => one.getAttribute("href") === href);
    if (again) again.focus({ preventScroll: true });
  }
}

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(location.href, {
      headers: tag ? { "If-None-Match": tag } : {},
      cache: "no-store",
      credentials: "same-origin",
      signal: AbortSignal.timeout(10000),
    });
    if (answer.redirected) return location.reload();
    lastRead = Date.now();
    failing = false;
    say("");
    if (answer.status === 304 || !answer.ok) return;
    tag = answer.headers.get("ETag");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const region of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(region.id);
      if (fresh) replace(region, fresh);
    }
    document.title = page.title;
  } catch {
    failing = true;
    say(`Not reached for ${Math.round((Date.now() - lastRead) / 1000)} s; what you see is from then.`);
  }
}

async function keepFresh() {
  for (;;) {
    await new Promise((done) => setTimeout(done, failing ? EVERY_MS * 3 : EVERY_MS));
    await refresh();
  }
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.hasAttribute("data-once")) return;
  // After the event, so that the pressed button's own value is still sent.
  setTimeout(() => form.querySelectorAll("button").forEach((button) => (button.disabled = true)));
});
document.addEventListener("visibilitychange", refresh);
window.addEventListener("pageshow", (event) => {
  // Back from the browser's memory: buttons that were pressed may be pressed again.
  if (event.persisted) document.querySelectorAll("button:disabled").forEach((button) => (button.disabled = false));
});

const current = document.querySelector("#menu [aria-current]");
if (current) current.scrollIntoView({ block: "nearest", inline: "center" });
if (document.querySelector("[data-live]")) keepFresh();
