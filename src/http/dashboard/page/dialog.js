// Questions to the operator before something is done.

import { el } from "./dom.js";

/** Asks; resolves with the values of `fields`, or with null when it is not to be done.
 *
 *   { title, text, confirm: "Kick", isDanger, fields: [{ name, label, options | value, hint }] }
 */
export function confirmAction({ title, text, confirm, isDanger = false, fields = [] }) {
  const inputs = fields.map((field) => ({ field, input: inputOf(field) }));
  const labels = inputs.map(({ field, input }) =>
    el("label", {}, el("span", { text: field.label }), input, field.hint ? el("small", { text: field.hint }) : null),
  );
  const cancel = el("button", { type: "button", text: "Cancel" });
  const act = el("button", { type: "button", class: isDanger ? "danger" : "primary", text: confirm });
  const dialog = el(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    el("h2", { id: "dialog-title", text: title }),
    el("p", { text }),
    ...labels,
    el("div", { class: "buttons" }, cancel, act),
  );
  document.body.append(dialog);
  return new Promise((resolve) => {
    let answer = null;
    const close = (values) => {
      answer = values;
      dialog.close();
    };
    const values = () => Object.fromEntries(inputs.map(({ field, input }) => [field.name, input.value.trim()]));
    cancel.addEventListener("click", () => close(null));
    act.addEventListener("click", () => close(values()));
    for (const { input } of inputs) {
      input.addEventListener("keydown", (event) => event.key === "Enter" && close(values()));
    }
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    dialog.showModal();
    (inputs[0]?.input ?? cancel).focus();
  });
}

function inputOf({ name, options, value = "" }) {
  if (!options) return el("input", { name, value, autocomplete: "off" });
  const choices = options.map(({ value: of, label }) => el("option", { value: of, text: label, selected: of === value }));
  return el("select", { name }, ...choices);
}
