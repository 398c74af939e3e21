// Numbers and times as people read them.

export function number(value) {
  if (value === null || value === undefined || value === "") return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-4)) return value.toExponential(3).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(6)));
}

export function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const at = new Date(seconds * 1000);
  const today = at.toDateString() === new Date().toDateString();
  const clock = at.toLocaleTimeString([], { hour12: false });
  return today ? clock : `${at.toLocaleDateString()} ${clock}`;
}

export function duration(start, end = Date.now() / 1000) {
  if (start === null || start === undefined) return "–";
  const seconds = Math.max(0, (end ?? Date.now() / 1000) - start);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${rest} s`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  return count < 1 << 20 ? `${(count / 1024).toFixed(1)} KiB` : `${(count / (1 << 20)).toFixed(1)} MiB`;
}

/** The repository of an image, without registry and tag. */
export const image = (uri) => (uri ?? "").split("@")[0].replace(/:[^:/]*$/, "").split("/").pop();
