//! Links calls of a kernel function (kfunc), whose BTF id differs between kernels. The object is
//! changed before it is loaded, as the loader does not link such calls.

use anyhow::{Context as _, Result};
use object::{Object, ObjectSection, SectionFlags, elf};
use synfin_common::kfunc::RDONLY_CAST_PLACEHOLDER;

/// Size of an instruction in bytes: opcode, registers, offset (two bytes) and immediate value.
const INSTRUCTION: usize = 8;
/// The opcode of a call.
const CALL: u8 = 0x85;
/// Value of the source register if the immediate value is the BTF id of a kernel function
/// (`BPF_PSEUDO_KFUNC_CALL`).
const OF_KFUNC: u8 = 2 << 4;

/// Returns the object with its calls of the function changed to calls of this BTF id.
pub(super) fn link(object: &[u8], number: u32) -> Result<Vec<u8>> {
    let call = |of: u8, number: u32| {
        let [a, b, c, d] = number.to_ne_bytes();
        [CALL, of, 0, 0, a, b, c, d]
    };
    let (ours, linked) = (call(0, RDONLY_CAST_PLACEHOLDER), call(OF_KFUNC, number));

    let mut linked_object = object.to_vec();
    let elf = object::File::parse(object).context("the eBPF object is no ELF")?;
    for section in elf.sections().filter(|section| is_code(section.flags())) {
        let Some((start, size)) = section.file_range() else { continue };
        let (start, size) = (usize::try_from(start)?, usize::try_from(size)?);
        let code = linked_object.get_mut(start..start + size).context("a section is cut short")?;
        let calls = code.chunks_exact_mut(INSTRUCTION).filter(|instruction| **instruction == ours);
        calls.for_each(|call| call.copy_from_slice(&linked));
    }
    Ok(linked_object)
}

fn is_code(flags: SectionFlags) -> bool {
    matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_EXECINSTR) != 0)
}

#[cfg(test)]
mod tests {
    use object::{
        Architecture, BinaryFormat, Endianness, SectionKind,
        write::{Object, StandardSection},
    };

    use super::*;

    #[test]
    fn calls_in_code_are_linked_and_nothing_else() {
        let [a, b, c, d] = RDONLY_CAST_PLACEHOLDER.to_ne_bytes();
        let (ours, other) = ([CALL, 0, 0, 0, a, b, c, d], [CALL, 0, 0, 0, 5, 0, 0, 0]);
        let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::default());
        let code = object.add_section(Vec::new(), b"tracepoint".to_vec(), SectionKind::Text);
        let data = object.section_id(StandardSection::ReadOnlyData);
        let before = [other, ours, other];
        for section in [code, data] {
            object.append_section_data(section, before.as_flattened(), 8);
        }
        let linked = link(&object.write().unwrap(), 70_000).unwrap();

        let elf = object::File::parse(&*linked).unwrap();
        let content =
            |name| object::Object::section_by_name(&elf, name).unwrap().data().unwrap().to_vec();
        let [a, b, c, d] = 70_000_u32.to_ne_bytes();
        let after = [other, [CALL, OF_KFUNC, 0, 0, a, b, c, d], other];
        assert_eq!(content("tracepoint"), after.as_flattened());
        assert_eq!(content(".rodata"), before.as_flattened());
    }
}
