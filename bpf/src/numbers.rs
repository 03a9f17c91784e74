//! Enumerations that C and Rust share.
//!
//! A Rust `enum` may not hold what the kernel might return, so each is a number with named values.

/// Declares a number with named values that mirrors `enum $c` in C, whose values are called `$prefix` + name.
macro_rules! numbers {
    ($(#[$doc:meta])* $name:ident: $int:ty = $c:literal, $prefix:literal { $($(#[$value_doc:meta])* $value:ident = $number:expr,)+ }) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl $name {
            $($(#[$value_doc])* pub const $value: Self = Self($number);)+

            /// Name of the enumeration in the object's BTF.
            pub const C_NAME: &'static str = $c;
            /// What precedes a value's name in C.
            pub const C_PREFIX: &'static str = $prefix;
            /// Every value with its name.
            pub const ALL: &'static [(&'static str, Self)] = &[$((stringify!($value), Self($number)),)+];

            /// The value's name, unless the number has none.
            pub fn name(self) -> Option<&'static str> {
                Self::ALL.iter().find(|(_, value)| *value == self).map(|(name, _)| *name)
            }
        }

        /// The name in lower case with dashes, else the number.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(&name.to_ascii_lowercase().replace('_', "-")),
                    None => write!(f, "{}", self.0),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

/// Lets flags be combined and asked for.
macro_rules! flags {
    ($name:ident) => {
        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
        impl std::ops::BitOrAssign for $name {
            fn bitor_assign(&mut self, other: Self) {
                self.0 |= other.0;
            }
        }
        impl $name {
            /// Whether every flag of `other` is set.
            pub fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }
        }
    };
}

/// Declares that structs may be map keys or values.
macro_rules! pod {
    ($($name:ty),+ $(,)?) => {
        $(
            // SAFETY: a repr(C) struct of integers and arrays of integers without padding (tests/layout.rs compares every
            // offset with the object's BTF), so that every bit pattern is valid and no byte is uninitialised.
            unsafe impl aya::Pod for $name {}
        )+
    };
}

pub(crate) use {flags, numbers, pod};
