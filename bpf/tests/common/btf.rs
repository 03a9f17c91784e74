//! Just enough of ELF and BTF to read struct layouts and enumerations from an object.
//! Format: Documentation/bpf/btf.rst of the kernel.

use std::collections::BTreeMap;

/// A struct of the object.
#[derive(Debug)]
pub struct Struct {
    pub size: u32,
    /// Name and offset in bytes, in order.
    pub fields: Vec<(String, u32)>,
}

/// What the object's BTF says.
#[derive(Debug, Default)]
pub struct Layout {
    pub structs: BTreeMap<String, Struct>,
    /// Size in bytes, and values by name.
    pub enums: BTreeMap<String, (u32, BTreeMap<String, u64>)>,
}

const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_INT: u32 = 1;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
}

fn text(bytes: &[u8], at: usize) -> String {
    let end = bytes[at..].iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(bytes[at..at + end].to_vec()).unwrap()
}

/// The contents of a section of a 64-bit little-endian ELF file.
fn section<'a>(elf: &'a [u8], name: &str) -> &'a [u8] {
    let (headers, size, count) = (u64_at(elf, 0x28), u16_at(elf, 0x3a), u16_at(elf, 0x3c));
    let header = |index: usize| &elf[headers + index * size..headers + (index + 1) * size];
    let contents = |header: &[u8]| u64_at(header, 0x18)..u64_at(header, 0x18) + u64_at(header, 0x20);
    let names = &elf[contents(header(u16_at(elf, 0x3e)))];
    let found = (0..count).map(header).find(|header| text(names, u32_at(header, 0) as usize) == name);
    &elf[contents(found.unwrap_or_else(|| panic!("no section {name}")))]
}

/// Reads the object's BTF.
pub fn read(elf: &[u8]) -> Layout {
    let btf = section(elf, ".BTF");
    let header = u32_at(btf, 4) as usize;
    let at = |field: usize| u32_at(btf, field) as usize;
    let types = &btf[header + at(8)..][..at(12)];
    let strings = &btf[header + at(16)..][..at(20)];

    let mut layout = Layout::default();
    let mut position = 0;
    while position < types.len() {
        let name = text(strings, u32_at(types, position) as usize);
        let info = u32_at(types, position + 4);
        let size = u32_at(types, position + 8);
        let (members, kind) = ((info & 0xffff) as usize, (info >> 24) & 0x1f);
        position += 12;
        match kind {
            KIND_STRUCT => {
                let field = |i: usize| {
                    let at = position + i * 12;
                    (text(strings, u32_at(types, at) as usize), u32_at(types, at + 8) / 8)
                };
                layout.structs.insert(name, Struct { size, fields: (0..members).map(field).collect() });
            }
            KIND_ENUM => {
                let value = |i: usize| {
                    let at = position + i * 8;
                    (text(strings, u32_at(types, at) as usize), u64::from(u32_at(types, at + 4)))
                };
                layout.enums.insert(name, (size, (0..members).map(value).collect()));
            }
            _ => {}
        }
        position += match kind {
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => members * 12,
            KIND_ENUM | KIND_FUNC_PROTO => members * 8,
            KIND_ARRAY => 12,
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            _ => 0,
        };
    }
    layout
}
