// The box that takes a photo: a file, a drop or a paste anywhere on the page, or the camera. What is taken is told to the page as
// the event "photo-taken"; the box shows what the page has made of it ("photo-shown", "photo-refused").

import { photo as words } from "./words.js";

export default function mount({ element }) {
const box = element.querySelector(".photo-box");
const input = box.querySelector("input");
const image = box.querySelector("img");
const invite = box.querySelector(".invite");
const sentence = box.querySelector("[role=alert]");
const dialog = box.querySelector("dialog");
const video = box.querySelector("video");
const forget = box.querySelector("[data-do=forget]");

const tell = (text) => {
  sentence.hidden = !text;
  sentence.textContent = text ?? "";
};

function take(file) {
  if (!file) return;
  tell(null);
  document.dispatchEvent(new CustomEvent("photo-taken", { detail: { file, name: file.name || "photo.png" } }));
}

const fileOf = (data) => [...(data?.files ?? [])].find((file) => !file.type || file.type.startsWith("image/"));
const elsewhere = (event) => event.composedPath().some((node) => node.matches?.("[data-takes-files], #photo-path, .make, dialog"));

input.addEventListener("change", () => {
  take(input.files[0]);
  input.value = "";  // the same file again is a change again
});
document.addEventListener("dragover", (event) => !elsewhere(event) && event.preventDefault());
document.addEventListener("drop", (event) => {
  const file = fileOf(event.dataTransfer);
  if (!file || elsewhere(event)) return;
  event.preventDefault();
  take(file);
});
document.addEventListener("paste", (event) => {
  const file = fileOf(event.clipboardData);
  if (!file || elsewhere(event)) return;
  event.preventDefault();
  take(file);
});

document.addEventListener("photo-shown", ({ detail }) => {
  image.hidden = forget.hidden = !detail;
  invite.hidden = Boolean(detail);
  if (detail) Object.assign(image, { src: detail.picture, alt: detail.name });
  tell(null);
});
document.addEventListener("photo-refused", ({ detail }) => tell(detail));

function close() {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  dialog.close();
}
dialog.addEventListener("cancel", close);

const actions = {
  async camera() {
    if (!navigator.mediaDevices?.getUserMedia) return tell(words.noCameraHere);
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 1280 } });
      dialog.showModal();
    } catch ({ name }) {
      tell(name === "NotAllowedError" ? words.cameraDenied : words.noCamera);
    }
  },
  shoot() {
    const shot = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
    shot.getContext("2d").drawImage(video, 0, 0);
    shot.toBlob((blob) => take(new File([blob], "camera.png", { type: "image/png" })));
    close();
  },
  close,
  forget: () => document.dispatchEvent(new CustomEvent("photo-forgotten")),
};
box.addEventListener("click", (event) => actions[event.target.closest("button")?.dataset.do]?.());
}
