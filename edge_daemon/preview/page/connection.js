// The way to the daemon: asks for one message after another, and only while somebody looks.

const LONGEST_DELAY = 5000; // milliseconds between two attempts

/**
 * Hands each message to `show`, and asks for the next once that is done.
 *
 * @param {object} handlers
 * @param {(session: object) => Promise<void>} handlers.begin before the first message
 * @param {(glance: object, picture: ?ImageBitmap) => void} handlers.show
 * @param {() => void} handlers.lose when the connection breaks
 */
export function connect({ begin, show, lose }) {
  let socket = null;
  let timer = null;
  let delay = 500;

  async function open() {
    try {
      const answer = await fetch("/session");
      if (answer.status === 401) location.reload(); // shows what to do
      if (!answer.ok) throw new Error(answer.statusText);
      await begin(await answer.json());
      if (!document.hidden) listen();
    } catch {
      retry();
    }
  }

  function listen() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const mine = new WebSocket(`${scheme}//${location.host}/live`);
    mine.binaryType = "arraybuffer";
    mine.onopen = () => mine.send("next");
    mine.onmessage = async ({ data }) => {
      delay = 500;
      const { glance, picture } = await unpacked(data);
      if (socket !== mine) return;
      show(glance, picture);
      requestAnimationFrame(() => mine.readyState === WebSocket.OPEN && mine.send("next"));
    };
    mine.onclose = () => socket === mine && retry();
    socket = mine;
  }

  function retry() {
    socket = null;
    if (document.hidden) return;
    lose();
    timer = setTimeout(open, delay);
    delay = Math.min(2 * delay, LONGEST_DELAY);
  }

  function close() {
    clearTimeout(timer);
    const mine = socket;
    socket = null;
    mine?.close();
  }

  document.addEventListener("visibilitychange", () => {
    close();
    if (!document.hidden) open();
  });
  open();
}

/** A message's parts: the length of the JSON, the JSON, and a JPEG where there is a picture. */
async function unpacked(data) {
  const length = new DataView(data).getUint32(0);
  const glance = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const jpeg = new Uint8Array(data, 4 + length);
  const picture = jpeg.length ? await createImageBitmap(new Blob([jpeg])) : null;
  return { glance, picture };
}
