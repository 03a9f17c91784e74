//! The built objects, for a loader.

/// Bytes with the alignment that ELF readers ask for.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static AXONEME_OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/axoneme.o")));

/// The object with all programs and maps (see [`programs`](crate::programs) and [`maps`](crate::maps)). Maps carry no pinning:
/// the loader says where each lives.
pub static AXONEME: &[u8] = &AXONEME_OBJECT.0;
