// The connection to the daemon: requests one message after another, while the page is visible.

const FIRST_DELAY = 500; // milliseconds between two attempts
const MAX_DELAY = 5000;

const TIMEOUT = 8000; // milliseconds without an answer, such as without power

/** Fetch from the daemon; fail if it gives no answer. */
export function get(path) {
  return fetch(path, { signal: AbortSignal.timeout(TIMEOUT) });
}

/**
 * Pass each message to `show`, and request the next one after that.
 *
 * @param {object} handlers
 * @param {(session: object) => Promise<void>} handlers.begin before the first message
 * @param {(header: object, picture: ?ImageBitmap) => void} handlers.show
 * @param {() => void} handlers.lose when the connection is lost
 */
export function connect({ begin, show, lose }) {
  let socket = null;
  let timer = null;
  let deadline = null;
  let delay = FIRST_DELAY;
  let visits = 0; // how often the page was hidden or shown

  async function open() {
    const visit = visits;
    try {
      const response = await get("/session");
      if (response.status === 401) location.reload(); // shows the login page
      if (!response.ok) throw new Error(response.statusText);
      const session = await response.json();
      await begin(session);
      if (!document.hidden && visit === visits) listen(TIMEOUT + session.interval_ms);
    } catch {
      if (visit === visits) retry();
    }
  }

  function listen(timeout) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const current = new WebSocket(`${scheme}//${location.host}/live`);
    current.binaryType = "arraybuffer";
    const expect = () => {
      clearTimeout(deadline);
      deadline = setTimeout(() => socket === current && drop(), timeout);
    };
    current.onopen = () => current.send("next");
    current.onmessage = async ({ data }) => {
      delay = FIRST_DELAY;
      expect();
      const { header, picture } = await decoded(data);
      if (socket !== current) return;
      show(header, picture);
      requestAnimationFrame(() => current.readyState === WebSocket.OPEN && current.send("next"));
    };
    current.onclose = () => socket === current && retry();
    socket = current;
    expect();
  }

  /** End a connection that gives no answer: its own end could take minutes. */
  function drop() {
    socket.close();
    retry();
  }

  function retry() {
    socket = null;
    if (document.hidden) return;
    lose();
    timer = setTimeout(open, delay);
    delay = Math.min(2 * delay, MAX_DELAY);
  }

  function close() {
    clearTimeout(timer);
    clearTimeout(deadline);
    const current = socket;
    socket = null;
    current?.close();
  }

  document.addEventListener("visibilitychange", () => {
    visits += 1;
    close();
    if (!document.hidden) open();
  });
  open();
}

/** A message's parts: the length of the JSON, the JSON, and a JPEG if there is a picture. */
async function decoded(data) {
  const length = new DataView(data).getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const jpeg = new Uint8Array(data, 4 + length);
  const picture = jpeg.length ? await createImageBitmap(new Blob([jpeg])) : null;
  return { header, picture };
}
