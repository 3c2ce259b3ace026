// Numbers formatted for people. A missing value is a dash.

const NONE = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);

export function count(value) {
  if (!known(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9) return (value / 1e9).toFixed(size < 1e10 ? 1 : 0) + "G";
  if (size >= 1e6) return (value / 1e6).toFixed(size < 1e7 ? 1 : 0) + "M";
  if (size >= 1e4) return Number((value / 1e3).toFixed(1)) + "k";
  return Number.isInteger(value) ? String(value) : value.toPrecision(4);
}

export function bytes(value) {
  if (!known(value)) return NONE;
  const [size, unit] = value >= 1e9 ? [value / 1e9, " GB"] : [value / 1e6, " MB"];
  return Number(size.toPrecision(3)) + unit;
}

export const loss = (value) => (known(value) ? value.toFixed(4) : NONE);

export function small(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0";
  const rounded = Number(value.toPrecision(4));
  const size = Math.abs(rounded);
  return size < 1e-3 || size >= 1e5 ? Number(value.toPrecision(3)).toExponential() : String(rounded);
}

export function duration(seconds) {
  if (!known(seconds)) return NONE;
  const whole = Math.round(seconds);
  if (whole < 60) return (seconds < 10 && seconds > 0 ? Number(seconds.toPrecision(2)) : whole) + " s";
  if (whole < 3600) return Math.floor(whole / 60) + " m " + (whole % 60) + " s";
  if (whole < 86400) return Math.floor(whole / 3600) + " h " + Math.floor((whole % 3600) / 60) + " m";
  return Math.floor(whole / 86400) + " d " + Math.floor((whole % 86400) / 3600) + " h";
}

// A run's id consists of a time and a name.
export function name(id) {
  const parts = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)(?:-(.+))?$/.exec(id);
  if (!parts) return { short: id, when: "" };
  const when = `${parts[1]}-${parts[2]}-${parts[3]} ${parts[4]}:${parts[5]}:${parts[6]} UTC`;
  return { short: parts[7] || id, when };
}

// Labels that distinguish runs: names, with the time if two have the same name.
export function labels(ids) {
  const names = ids.map((id) => name(id).short);
  return names.map((short, i) => {
    const alone = names.indexOf(short) === names.lastIndexOf(short);
    return alone ? short : `${short} ${name(ids[i]).when.slice(5, 19)}`;
  });
}

// An element with text. Text of runs always becomes a text node, never markup.
export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))));
  return made;
}
