"""Takes symbols out of what an executable exports (x86-64 ELF).

The server of the 2.2 wheels holds OpenSSL 1.1, linked statically, and exports it. The client of object storage needs
OpenSSL 1.0, finds the executable's functions first and crashes as soon as it calls one. Without object storage nothing does.
"""

import struct

SHT_RELA, SHT_DYNSYM = 4, 11
R_64, R_GLOB_DAT, R_RELATIVE = 1, 6, 8
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")


class Elf:
    def __init__(self, data):
        self.data = data
        [start] = struct.unpack_from("<Q", data, 0x28)
        size, count = struct.unpack_from("<HH", data, 0x3A)
        self.sections = [SECTION.unpack_from(data, start + size * number) for number in range(count)]

    def entries(self, kind, layout):
        """Offset and content of each entry of the tables of a kind, with the table's section and the entry's number."""
        for section in self.sections:
            if section[1] == kind:
                for number in range(section[5] // layout.size):
                    offset = section[4] + number * layout.size
                    yield offset, layout.unpack_from(self.data, offset), section, number

    def defined(self):
        """Symbols that it defines: name to number, offset of the entry, value."""
        found = {}
        for offset, (name, _, _, section, value, _), table, number in self.entries(SHT_DYNSYM, SYMBOL):
            if section and value:
                begin = self.sections[table[6]][4] + name
                found[bytes(self.data[begin:self.data.index(b"\0", begin)])] = (number, offset, value)
        return found


def hide(executable, libraries):
    """The executable without the symbols that one of the libraries defines too; it keeps using its own. It must not be position
    independent."""
    data = bytearray(executable)
    elf = Elf(data)
    others = {name for library in libraries for name in Elf(library).defined() if not name.startswith(b"_")}
    shared = [symbol for name, symbol in elf.defined().items() if name in others]
    values = {number: value for number, _, value in shared}
    for offset, (place, info, addend), _, _ in list(elf.entries(SHT_RELA, RELOCATION)):
        number, kind = info >> 32, info & 0xFFFFFFFF
        if number in values:
            assert kind in (R_64, R_GLOB_DAT), f"a relocation of kind {kind}"
            value = values[number] + (addend if kind == R_64 else 0)
            RELOCATION.pack_into(data, offset, place, R_RELATIVE, value)
    for _, offset, _ in shared:
        struct.pack_into("<HQ", data, offset + 6, 0, 0)
    return bytes(data), len(shared)
