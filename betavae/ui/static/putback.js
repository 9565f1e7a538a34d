// A photo with an edit put back, as betavae/displacement.py has it (its put_back says the mathematics): the photo's own pixels, moved
// by the sum of the directions' fields and shaded by what two decodes still differ by. Drawn by WebGL2, or on the processor.

import { loaded } from "./stage.js";

const GRID = 32;
const FOLLOWED = 4;
const BORDER = 0.12;
const LOW_PASS = 0.75 / 64;

// The field of a direction, as the page is told it, for strength 1: Float32Array of 2 x GRID x GRID.
function fieldOf({ scale, data }) {
  return Float32Array.from(Int8Array.from(atob(data), (letter) => letter.charCodeAt(0)), (value) => value * scale);
}

// Sum of fields times strengths, or null where nothing moves.
export function totalField(space, strengths) {
  let sum = null;
  for (const [name, strength] of Object.entries(strengths)) {
    const direction = space.get(name);
    if (!direction?.displacement || !strength) continue;
    direction.field ??= fieldOf(direction.displacement);
    sum ??= new Float32Array(2 * GRID * GRID);
    direction.field.forEach((value, i) => (sum[i] += strength * value));
  }
  return sum;
}

const fade = (u) => {
  const t = Math.min(1, Math.max(0, Math.min(u, 1 - u) / BORDER));
  return t * t * (3 - 2 * t);
};

// A channel of n x n values at (x, y) in [0, 1], linearly, clamped to its edge.
function sample(values, n, stride, offset, x, y) {
  const px = Math.min(n - 1, Math.max(0, x * n - 0.5));
  const py = Math.min(n - 1, Math.max(0, y * n - 0.5));
  const x0 = Math.min(n - 2, Math.floor(px));
  const y0 = Math.min(n - 2, Math.floor(py));
  const [fx, fy] = [px - x0, py - y0];
  const at = (row, column) => values[(row * n + column) * stride + offset];
  return (at(y0, x0) * (1 - fx) + at(y0, x0 + 1) * fx) * (1 - fy) + (at(y0 + 1, x0) * (1 - fx) + at(y0 + 1, x0 + 1) * fx) * fy;
}

// Where the content at u came from.
function source(field, x, y) {
  if (!field) return [x, y];
  for (let i = 0; i < FOLLOWED; i++) {
    const m = fade(x) * fade(y) / FOLLOWED;
    const [dx, dy] = [sample(field.subarray(0, GRID * GRID), GRID, 1, 0, x, y), sample(field.subarray(GRID * GRID), GRID, 1, 0, x, y)];
    x -= m * dx;
    y -= m * dy;
  }
  return [x, y];
}

// What the decodes, RGBA bytes of n x n pixels, still differ by once the first is moved: Float32Array of n x n x 4, low-passed.
export function residualOf(before, after, n, field) {
  let values = new Float32Array(4 * n * n);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; column++) {
      const [x, y] = source(field, (column + 0.5) / n, (row + 0.5) / n);
      for (let c = 0; c < 3; c++) {
        values[4 * (row * n + column) + c] = (after[4 * (row * n + column) + c] - sample(before, n, 4, c, x, y)) / 255;
      }
    }
  }
  const sigma = LOW_PASS * n;
  const reach = Math.ceil(4 * sigma);
  const weights = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * sigma ** 2)));
  const whole = weights.reduce((a, b) => a + b);
  for (const across of [true, false]) {
    const blurred = new Float32Array(values.length);
    for (let row = 0; row < n; row++) {
      for (let column = 0; column < n; column++) {
        for (let i = -reach; i <= reach; i++) {
          const at = across ? row * n + Math.min(n - 1, Math.max(0, column + i)) : Math.min(n - 1, Math.max(0, row + i)) * n + column;
          for (let c = 0; c < 3; c++) blurred[4 * (row * n + column) + c] += (weights[i + reach] / whole) * values[4 * at + c];
        }
      }
    }
    values = blurred;
  }
  return values;
}

const VERTEX = `#version 300 es
in vec2 corner;
out vec2 place;
void main() { place = vec2(corner.x, 1. - corner.y); gl_Position = vec4(2. * corner - 1., 0., 1.); }`;

const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D photo, field, residual, matte;
uniform mat3 view, inverse, square;  // canvas -> photo's pixels; photo's pixels -> the model's square, and back
uniform vec2 size;
uniform int touch;                   // the residual is for 0: everything, 1: the person, 2: the background
in vec2 place;
out vec4 colour;
float fade(float u) { float t = clamp(min(u, 1. - u) / ${BORDER}, 0., 1.); return t * t * (3. - 2. * t); }
void main() {
  vec2 p = (view * vec3(place, 1.)).xy;
  if (any(lessThan(p, vec2(0.))) || any(greaterThan(p, size))) { colour = vec4(0.); return; }
  vec2 u = (inverse * vec3(p, 1.)).xy, v = u;
  float m = fade(u.x) * fade(u.y);
  if (m > 0.) for (int i = 0; i < ${FOLLOWED}; i++) v -= fade(v.x) * fade(v.y) / float(${FOLLOWED}) * texture(field, v).xy;
  vec2 q = m > 0. ? (square * vec3(v, 1.)).xy : p;
  vec3 shade = vec3(0.);
  if (m > 0.) {
    float person = texture(matte, v).r;
    shade = m * (touch == 0 ? 1. : touch == 1 ? person : 1. - person) * texture(residual, u).rgb;
  }
  colour = vec4(texture(photo, q / size).rgb + shade, 1.);
}`;

// [a, b, c; d, e, f] as WebGL wants a 3 x 3 matrix, column by column.
const columns = ([a, b, c, d, e, f]) => [a, d, 0, b, e, 0, c, f, 1];

function inverted([a, b, c, d, e, f]) {
  const determinant = a * e - b * d;
  return [e / determinant, -b / determinant, (b * f - c * e) / determinant, -d / determinant, a / determinant,
    (c * d - a * f) / determinant];
}

export class PhotoStage {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.gl = this.canvas.getContext("webgl2", { preserveDrawingBuffer: true, premultipliedAlpha: false });
    if (this.gl) this.compile();
  }

  compile() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "corner");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return (this.gl = null);
    gl.useProgram(program);
    this.at = (name) => gl.getUniformLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    ["photo", "field", "residual", "matte"].forEach((name, unit) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      for (const [key, value] of [[gl.TEXTURE_MIN_FILTER, gl.LINEAR], [gl.TEXTURE_MAG_FILTER, gl.LINEAR],
        [gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE], [gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE]]) gl.texParameteri(gl.TEXTURE_2D, key, value);
      gl.uniform1i(this.at(name), unit);
    });
  }

  // picture: what can be drawn, upright, of any size; size: the photo's own; square: the map from the model's square to the photo's
  // pixels, six numbers by rows; matte: a picture of the person over the square.
  show({ picture, size, square, matte }) {
    Object.assign(this, { picture, size, square, matte });
    if (!this.gl) {
      this.pixels = this.read(picture, Math.min(1, 1600 / Math.max(...size)));
      this.person = this.read(matte, 1);
      return;
    }
    const { gl } = this;
    const largest = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    const fits = Math.max(picture.width, picture.height) <= largest ? picture
      : this.read(picture, largest / Math.max(picture.width, picture.height)).canvas;
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    gl.activeTexture(gl.TEXTURE0);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, fits);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.activeTexture(gl.TEXTURE3);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, matte);
    gl.uniform2f(this.at("size"), ...size);
    gl.uniformMatrix3fv(this.at("square"), false, columns(square));
    gl.uniformMatrix3fv(this.at("inverse"), false, columns(inverted(square)));
  }

  read(picture, scale) {
    const canvas = Object.assign(document.createElement("canvas"),
      { width: Math.round(picture.width * scale), height: Math.round(picture.height * scale) });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    return { canvas, width: canvas.width, height: canvas.height, data: context.getImageData(0, 0, canvas.width, canvas.height).data };
  }

  // The part of the photo that is drawn: the face with what is around it, or with `whole` all of the photo. Six numbers.
  view(whole) {
    const [width, height] = this.size;
    const [a, b, c, d, e, f] = this.square;
    const side = whole ? Math.max(width, height) : Math.min(1.7 * Math.hypot(a, d), Math.max(width, height));
    const keep = (middle, length) => (length <= side ? length / 2 : Math.min(length - side / 2, Math.max(side / 2, middle)));
    const x = keep(a / 2 + b / 2 + c, width);
    const y = keep(d / 2 + e / 2 + f, height);
    return [side, 0, x - side / 2, 0, side, y - side / 2];
  }

  // A square picture of so many pixels a side. view: its place in the photo, six numbers; field as of totalField; residual as of
  // residualOf, with its side n; touch as in the shader.
  draw({ field, residual, n, touch, view, side }) {
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    if (!this.gl) return this.drawHere({ field, residual, n, touch, view });
    const { gl } = this;
    const pairs = new Float32Array(2 * GRID * GRID);
    if (field) for (let i = 0; i < GRID * GRID; i++) [pairs[2 * i], pairs[2 * i + 1]] = [field[i], field[GRID * GRID + i]];
    gl.activeTexture(gl.TEXTURE1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RG16F, GRID, GRID, 0, gl.RG, gl.FLOAT, pairs);
    gl.activeTexture(gl.TEXTURE2);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16F, residual ? n : 1, residual ? n : 1, 0, gl.RGBA, gl.FLOAT, residual ?? new Float32Array(4));
    gl.uniform1i(this.at("touch"), touch);
    gl.uniformMatrix3fv(this.at("view"), false, columns(view));
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    return this.canvas;
  }

  // The same on the processor, every second pixel of the picture: for browsers without WebGL2.
  drawHere({ field, residual, n, touch, view }) {
    const side = this.canvas.width / 2;
    const [width, height] = this.size;
    const inverse = inverted(this.square);
    const map = ([a, b, c, d, e, f], x, y) => [a * x + b * y + c, d * x + e * y + f];
    const out = new ImageData(side, side);
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const p = map(view, (column + 0.5) / side, (row + 0.5) / side);
        if (p[0] < 0 || p[1] < 0 || p[0] > width || p[1] > height) continue;
        const u = map(inverse, ...p);
        const m = fade(u[0]) * fade(u[1]);
        const v = m ? source(field, ...u) : u;
        const q = m ? map(this.square, ...v) : p;
        const x = Math.min(this.pixels.width - 1, Math.max(0, Math.floor((q[0] / width) * this.pixels.width)));
        const y = Math.min(this.pixels.height - 1, Math.max(0, Math.floor((q[1] / height) * this.pixels.height)));
        const person = m && touch ? sample(this.person.data, this.person.width, 4, 0, ...v) / 255 : 1;
        const share = m * (touch === 2 ? 1 - person : person);
        for (let c = 0; c < 3; c++) {
          const added = residual && m ? 255 * share * sample(residual, n, 4, c, ...u) : 0;
          out.data[4 * (row * side + column) + c] = this.pixels.data[4 * (y * this.pixels.width + x) + c] + added;
        }
        out.data[4 * (row * side + column) + 3] = 255;
      }
    }
    this.small ??= document.createElement("canvas");
    Object.assign(this.small, { width: side, height: side });
    this.small.getContext("2d").putImageData(out, 0, 0);
    return this.small;
  }
}

// A data URI's pixels: RGBA bytes, n x n.
export async function pixelsOf(uri) {
  const image = await loaded(uri);
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return { n: image.width, data: context.getImageData(0, 0, image.width, image.height).data };
}
