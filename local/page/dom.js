// Elements, made from data only: text is never read as markup.

const SVG = "http://www.w3.org/2000/svg";
const listeners = ["onclick", "onchange", "oninput", "onsubmit"];
const kept = new WeakSet();

export const h = (tag, properties, ...children) => made(document.createElement(tag), properties, children);
export const s = (tag, properties, ...children) => made(document.createElementNS(SVG, tag), properties, children);

function made(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (listeners.includes(name)) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Mark an element that its owner changes by himself: `show` leaves what is in it alone. */
export function keep(element) {
  kept.add(element);
  return element;
}

/** Let `parent` have the children that `nodes` are like; those that stay keep focus, selection and what was typed. */
export function show(parent, nodes) {
  let old = parent.firstChild;
  for (const node of nodes) {
    if (old === node) {
      old = old.nextSibling;
    } else if (old && alike(old, node)) {
      const next = old.nextSibling;
      if (old.nodeType === Node.ELEMENT_NODE) update(old, node);
      else if (old.data !== node.data) old.data = node.data;
      old = next;
    } else {
      parent.insertBefore(node, old);
      if (old && !nodes.includes(old)) {
        const next = old.nextSibling;
        old.remove();
        old = next;
      }
    }
  }
  while (old) {
    const next = old.nextSibling;
    old.remove();
    old = next;
  }
}

function alike(old, node) {
  return old.nodeName === node.nodeName && old.id === node.id && !kept.has(old) && !kept.has(node);
}

function update(old, node) {
  for (const { name } of [...old.attributes]) if (!node.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of node.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const name of listeners) old[name] = node[name];
  show(old, [...node.childNodes]);
}
