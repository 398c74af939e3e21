// Questions to the platform.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const patience = 20_000; // milliseconds

export const address = (...parts) => parts.map(encodeURIComponent).join("/");

export async function get(path, query = {}) {
  const asked = new URLSearchParams(query).toString();
  return answer(await fetch(`/_clary/${path}${asked && `?${asked}`}`, { signal: AbortSignal.timeout(patience) }));
}

export async function post(path) {
  const headers = { "X-Clary": "page" };
  return answer(await fetch(`/_clary/${path}`, { method: "POST", headers, signal: AbortSignal.timeout(patience) }));
}

async function answer(response) {
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  let message = text;
  try {
    message = JSON.parse(text).message;
  } catch {
    // whoever stands before the page answers in plain words
  }
  throw new Refused(response.status, message);
}
