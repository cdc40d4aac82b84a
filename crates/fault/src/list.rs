//! A list that cannot lack one of its own: variants and `ALL` from the same lines.

macro_rules! list {
    ($(#[$about:meta])* $list:ident { $($(#[$what:meta])* $one:ident,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $list {
            $($(#[$what])* $one,)+
        }

        impl $list {
            pub const ALL: &'static [$list] = &[$($list::$one),+];
        }
    };
}

pub(crate) use list;
