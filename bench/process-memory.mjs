// What this process holds, as Linux tells it; elsewhere only what Node knows.
import { readFileSync, writeFileSync } from 'node:fs';
import { freemem } from 'node:os';

function field(text, name) {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text);
  return found ? Number(found[1]) * 1024 : null;
}

/** Lets the peak begin anew from what is held now. Returns whether the system could: otherwise it only ever grows. */
export function resetPeak() {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
    return true;
  } catch {
    return false;
  }
}

/** The most that was held since `resetPeak`. */
export function peak() {
  try {
    return field(readFileSync('/proc/self/status', 'utf8'), 'VmHWM');
  } catch {
    return process.resourceUsage().maxRSS * 1024;
  }
}

/**
 * Memory that was asked to be huge pages. In a process with this package that is the memory of results
 * (native/weights/cpu/result_memory): in use, or idle for the next ones. Null where the system doesn't tell.
 */
export function resultMemory() {
  const all = mappings('self');
  if (!all) return null;
  return all
    .filter((mapping) => /^VmFlags:.*\bhg\b/m.test(mapping))
    .reduce((bytes, mapping) => bytes + field(mapping, 'Rss'), 0);
}

/** The mappings of a process, each a block of lines as Linux has them; null where the system doesn't tell. */
function mappings(pid) {
  try {
    return readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  } catch {
    return null;
  }
}

/**
 * What a process has of a file that it maps, in bytes: `resident`, of that `shared` with others and unchanged, its share of
 * all that (`proportional`), and `dirty`, changed pages of its own. Null where the system doesn't tell.
 */
export function mappedFile(pid, path) {
  const ofFile = mappings(pid)?.filter((mapping) => mapping.split('\n')[0].endsWith(` ${path}`));
  if (!ofFile) return null;
  const sum = (name) => ofFile.reduce((bytes, mapping) => bytes + field(mapping, name), 0);
  return {
    resident: sum('Rss'),
    shared: sum('Shared_Clean'),
    proportional: sum('Pss'),
    dirty: sum('Private_Dirty') + sum('Shared_Dirty'),
  };
}

/** What a process holds without what others hold as well, shared pages by their share; null where the system doesn't tell. */
export function proportionalMemory(pid) {
  const all = mappings(pid);
  return all?.reduce((bytes, mapping) => bytes + (field(mapping, 'Pss') ?? 0), 0) ?? null;
}

/** Has everything collected that nothing refers to any more, native sides included. */
export async function collectGarbage() {
  for (let pass = 0; pass < 3; pass++) {
    global.gc?.();
    // Finalizers run between two turns of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Whether results of so many bytes can be had, with room for what makes them. */
export function memoryFor(bytes) {
  return freemem() > 3 * bytes;
}
