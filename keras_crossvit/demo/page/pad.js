// A canvas for drawing with the pointer, with taps or with the keyboard.

const SIDE = 280; // in canvas units, like all lengths here
const PEN_WIDTH = 20;
const STEP = 10; // per arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Collects `strokes`. @fires change on the canvas when a stroke is finished or all are cleared. */
export class Pad {
  /**
   * @param canvas The canvas.
   * @param tapMode Checkbox: whether each tap draws a line from the previous tap.
   * @param say Function that shows a message.
   */
  constructor(canvas, tapMode, say) {
    Object.assign(this, { canvas, tapMode, say, strokes: [], current: null, pen: [SIDE / 2, SIDE / 4], keyboard: false });
    Object.assign(canvas, { width: 2 * SIDE, height: 2 * SIDE });
    this.context = canvas.getContext("2d");
    this.context.scale(2, 2);
    Object.assign(this.context, { lineWidth: PEN_WIDTH, lineCap: "round", lineJoin: "round" });
    canvas.addEventListener("pointerdown", (event) => this.#press(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => event.isPrimary && this.#lift());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => { this.keyboard = false; this.#lift(); });
    tapMode.addEventListener("change", () => { this.chain = null; });
    this.#paint();
  }

  clear() {
    Object.assign(this, { strokes: [], current: null, chain: null });
    this.#paint();
    this.#changed();
  }

  #press(event) {
    if (event.button !== 0 || !event.isPrimary) return; // ignores a second finger
    this.keyboard = false;
    const point = this.#point(event);
    if (this.tapMode.checked) {
      if (this.chain) this.chain.push(point);
      else this.strokes.push((this.chain = [point]));
      this.#paint();
      this.#changed();
      return;
    }
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push((this.current = [point]));
    this.#paint();
  }

  #move(event) {
    if (!this.current || this.keyboard || !event.isPrimary) return;
    const events = event.getCoalescedEvents?.() ?? [];
    this.current.push(...(events.length ? events : [event]).map((each) => this.#point(each)));
    this.#paint();
  }

  #lift() {
    if (!this.current) return;
    this.current = null;
    this.#paint();
    this.#changed();
  }

  #key(event) {
    const arrow = ARROWS[event.key];
    if (arrow) {
      this.pen = this.pen.map((value, axis) => Math.min(Math.max(value + arrow[axis] * STEP, STEP), SIDE - STEP));
      this.current?.push([...this.pen]);
    } else if (event.key === " " || event.key === "Enter") {
      if (this.current) this.#lift();
      else this.strokes.push((this.current = [[...this.pen]]));
      this.say(this.current ? "Pen down." : "Pen up.");
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.clear();
    } else {
      return;
    }
    this.keyboard = true;
    event.preventDefault();
    this.#paint();
  }

  #point({ clientX, clientY }) {
    const box = this.canvas.getBoundingClientRect();
    return [((clientX - box.left) / box.width) * SIDE, ((clientY - box.top) / box.height) * SIDE];
  }

  #paint() {
    const { context } = this;
    context.fillStyle = "#000";
    context.fillRect(0, 0, SIDE, SIDE);
    context.strokeStyle = "#fff";
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      for (const point of stroke) context.lineTo(...point);
      context.stroke();
    }
    if (this.keyboard) this.#paintPen();
  }

  #paintPen() {
    this.context.beginPath();
    this.context.arc(...this.pen, PEN_WIDTH / 2, 0, 2 * Math.PI);
    this.context.fillStyle = this.current ? "#f5a524" : "#f5a52466";
    this.context.fill();
  }

  #changed() {
    this.canvas.dispatchEvent(new Event("change"));
  }
}
