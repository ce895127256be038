// Names of files as the main server allows them (check_file_name), so that nobody uploads for
// an hour what is refused then; and the files of what was chosen or dropped, with their folders.

const MAX_BYTES = 900;
const MAX_SEGMENT = 200;
const RESERVED = /^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])$/i;
const bytesOf = (text) => new TextEncoder().encode(text).length;

// What is wrong with a name: "path", "character", "reserved", or "" for nothing.
export function checkName(name) {
  if (bytesOf(name) > MAX_BYTES) return "path";
  for (const segment of name.split("/")) {
    if (segment === "" || segment.startsWith(".") || bytesOf(segment) > MAX_SEGMENT || /[\\\p{Cc}]/u.test(segment)) return "path";
    if (/[<>:"|?*]|[ .]$/.test(segment)) return "character";
    if (RESERVED.test(segment.split(".")[0].trimEnd())) return "reserved";
  }
  return "";
}

// Such as .DS_Store: whoever sends a folder does not mean them, and no node may have them.
export const isHidden = (name) => name.split("/").some((segment) => segment.startsWith("."));

// Of an input, where a chosen folder is part of the path.
export const pickedFiles = (input) => [...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file }));

// All that was dropped, also what is in folders. The list of items is gone after the event,
// so it is read before anything is awaited. `limit`: files, after which nothing more is read.
export async function droppedFiles({ items, files }, limit) {
  const roots = [...items].map((item) => {
    const folder = item.webkitGetAsEntry?.();
    return folder?.isDirectory ? { folder } : { file: item.getAsFile?.() };
  });
  const found = [];
  for (const { folder, file } of roots.length > 0 ? roots : [...files].map((file) => ({ file }))) {
    if (folder) await walk(folder, found, limit);
    else if (file) found.push({ name: file.name, file });
  }
  return found;
}

async function walk(folder, found, limit) {
  const reader = folder.createReader();
  for (;;) {
    // A hundred at a time.
    const entries = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (found.length > limit) return;
      if (entry.isDirectory) await walk(entry, found, limit);
      else found.push({ name: entry.fullPath.replace(/^\//, ""), file: await new Promise((done, failed) => entry.file(done, failed)) });
    }
  }
}
