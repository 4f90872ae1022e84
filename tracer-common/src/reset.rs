//! Why the kernel sent a reset, as it says itself since Linux 6.10 (`enum sk_rst_reason`). Its
//! numbers differ between kernels, so the loader tells the kernel side those of the running one.

macro_rules! reset_reasons {
    ($($(#[$meta:meta])* $variant:ident $name:literal $kernel:literal;)*) => {
        /// Why a reset was sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ResetReason { $($(#[$meta])* $variant,)* }

        impl ResetReason {
            /// All reasons, in the order of our numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The kernel's name in lower case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The kernel's enumerator; empty if it has none.
            pub const fn enumerator(self) -> &'static str {
                match self { $(Self::$variant => $kernel,)* }
            }
        }
    };
}

reset_reasons! {
    /// The kernel gives none (before 6.10).
    NotGiven "not_given" "";
    /// One that this version does not know.
    Other "other" "";
    /// Nothing listens on the port, and no connection is at the addresses.
    NoSocket "no_socket" "SK_RST_REASON_NO_SOCKET";
    /// An ACK for something never sent, during the handshake.
    InvalidAckSequence "tcp_invalid_ack_sequence" "SK_RST_REASON_TCP_INVALID_ACK_SEQUENCE";
    /// A timestamp of the past, during the handshake.
    Rfc7323Paws "tcp_rfc7323_paws" "SK_RST_REASON_TCP_RFC7323_PAWS";
    /// An ACK that is far too old.
    TooOldAck "tcp_too_old_ack" "SK_RST_REASON_TCP_TOO_OLD_ACK";
    /// An ACK for what has not been sent.
    AckUnsentData "tcp_ack_unsent_data" "SK_RST_REASON_TCP_ACK_UNSENT_DATA";
    /// Flags that make no sense where they came.
    Flags "tcp_flags" "SK_RST_REASON_TCP_FLAGS";
    /// An old ACK.
    OldAck "tcp_old_ack" "SK_RST_REASON_TCP_OLD_ACK";
    /// Data came for a socket that was closed, or SO_LINGER 0.
    AbortOnData "tcp_abort_on_data" "SK_RST_REASON_TCP_ABORT_ON_DATA";
    /// A segment that a socket in TIME_WAIT could not take.
    TimeWaitSocket "tcp_timewait_socket" "SK_RST_REASON_TCP_TIMEWAIT_SOCKET";
    /// A SYN within a handshake, or a full accept queue (tcp_abort_on_overflow).
    InvalidSyn "invalid_syn" "SK_RST_REASON_INVALID_SYN";
    /// Closed with unread data.
    AbortOnClose "tcp_abort_on_close" "SK_RST_REASON_TCP_ABORT_ON_CLOSE";
    /// TCP_LINGER2 is negative.
    AbortOnLinger "tcp_abort_on_linger" "SK_RST_REASON_TCP_ABORT_ON_LINGER";
    /// Too little memory for sockets, or too many orphans.
    AbortOnMemory "tcp_abort_on_memory" "SK_RST_REASON_TCP_ABORT_ON_MEMORY";
    /// The state of the connection asked for it.
    State "tcp_state" "SK_RST_REASON_TCP_STATE";
    /// Keepalive probes were not answered.
    KeepaliveTimeout "tcp_keepalive_timeout" "SK_RST_REASON_TCP_KEEPALIVE_TIMEOUT";
    /// Dissolved with data not yet sent.
    DisconnectWithData "tcp_disconnect_with_data" "SK_RST_REASON_TCP_DISCONNECT_WITH_DATA";
}

impl ResetReason {
    /// The reason with this number of ours, or `None` if this reader does not know it.
    pub const fn from_number(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self::ALL[number as usize]) } else { None }
    }
}
