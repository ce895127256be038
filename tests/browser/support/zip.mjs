// ZIP archives of stored entries, for packages: as much of the format as a
// node's verification reads.

import { randomFillSync } from "node:crypto";

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

// zlib.crc32 came with Node 20.15; Debian 12 has 18.
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff];
  return (crc ^ 0xffffffff) >>> 0;
}

const VERSION = 20;
const UTF8_NAMES = 1 << 11;
// 1980-01-01, the first day that the format knows.
const DATE = 0x21;

/** The fields that a local header and the central directory have in common. */
function common(name, content) {
  const fields = Buffer.alloc(26);
  fields.writeUInt16LE(VERSION, 0);
  fields.writeUInt16LE(UTF8_NAMES, 2);
  fields.writeUInt16LE(DATE, 8);
  fields.writeUInt32LE(crc32(content), 10);
  fields.writeUInt32LE(content.length, 14);
  fields.writeUInt32LE(content.length, 18);
  fields.writeUInt16LE(name.length, 22);
  return fields;
}

/** An archive of these files: `{ "agenda.txt": "…" }`. */
export function zip(files) {
  const local = [];
  const central = [];
  let offset = 0;
  for (const [path, data] of Object.entries(files)) {
    const [name, content] = [Buffer.from(path), Buffer.from(data)];
    const fields = common(name, content);
    const entry = [Buffer.from("PK\x03\x04"), fields, name, content];
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset, 10);
    const madeBy = Buffer.from([VERSION, 0]);
    central.push(Buffer.from("PK\x01\x02"), madeBy, fields, rest, name);
    local.push(...entry);
    offset += entry.reduce((sum, part) => sum + part.length, 0);
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", "latin1");
  end.writeUInt16LE(local.length / 4, 8);
  end.writeUInt16LE(local.length / 4, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...local, directory, end]);
}

/** One of about `size` bytes that nothing can compress. */
export function bigZip(size) {
  return zip({ "big.bin": randomFillSync(Buffer.alloc(size)) });
}
