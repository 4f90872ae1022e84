//! Why the kernel sent a reset: `enum sk_rst_reason` (`include/net/rstreason.h`, since Linux 6.10).
//! Its values differ between kernels, so records have numbers of synfin's own; the loader sets the
//! running kernel's values in [`Config::reset_reasons`](crate::config::Config::reset_reasons).

macro_rules! reset_reasons {
    ($($(#[$meta:meta])* $variant:ident $name:literal $kernel:literal;)*) => {
        /// Why a reset was sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum ResetReason { $($(#[$meta])* $variant,)* }

        impl ResetReason {
            /// All reasons in numerical order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The kernel's name in lower case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The name of the kernel's enumerator; empty if it has none.
            pub const fn enumerator(self) -> &'static str {
                match self { $(Self::$variant => $kernel,)* }
            }
        }
    };
}

reset_reasons! {
    /// The kernel gives no reason (before 6.10).
    NotGiven "not_given" "";
    /// A reason that this version does not know.
    Other "other" "";
    /// There is no listener on the port and no connection with the addresses and ports.
    NoSocket "no_socket" "SK_RST_REASON_NO_SOCKET";
    /// An ACK with an invalid acknowledgement number during the handshake.
    InvalidAckSequence "tcp_invalid_ack_sequence" "SK_RST_REASON_TCP_INVALID_ACK_SEQUENCE";
    /// An old timestamp during the handshake (PAWS, RFC 7323).
    Rfc7323Paws "tcp_rfc7323_paws" "SK_RST_REASON_TCP_RFC7323_PAWS";
    /// An ACK that is older than the window allows.
    TooOldAck "tcp_too_old_ack" "SK_RST_REASON_TCP_TOO_OLD_ACK";
    /// An ACK for data that has not been sent.
    AckUnsentData "tcp_ack_unsent_data" "SK_RST_REASON_TCP_ACK_UNSENT_DATA";
    /// TCP flags that are invalid in the state.
    Flags "tcp_flags" "SK_RST_REASON_TCP_FLAGS";
    /// An old ACK.
    OldAck "tcp_old_ack" "SK_RST_REASON_TCP_OLD_ACK";
    /// Data arrived after close(), or close() with SO_LINGER 0.
    AbortOnData "tcp_abort_on_data" "SK_RST_REASON_TCP_ABORT_ON_DATA";
    /// A segment that a TIME_WAIT socket does not accept.
    TimeWaitSocket "tcp_timewait_socket" "SK_RST_REASON_TCP_TIMEWAIT_SOCKET";
    /// An invalid SYN during the handshake, or a full accept queue with tcp_abort_on_overflow.
    InvalidSyn "invalid_syn" "SK_RST_REASON_INVALID_SYN";
    /// close() with unread data.
    AbortOnClose "tcp_abort_on_close" "SK_RST_REASON_TCP_ABORT_ON_CLOSE";
    /// close() with a negative TCP_LINGER2.
    AbortOnLinger "tcp_abort_on_linger" "SK_RST_REASON_TCP_ABORT_ON_LINGER";
    /// Out of socket memory, or too many orphans.
    AbortOnMemory "tcp_abort_on_memory" "SK_RST_REASON_TCP_ABORT_ON_MEMORY";
    /// The state of the connection required it.
    State "tcp_state" "SK_RST_REASON_TCP_STATE";
    /// Keepalive probes were not answered.
    KeepaliveTimeout "tcp_keepalive_timeout" "SK_RST_REASON_TCP_KEEPALIVE_TIMEOUT";
    /// Disconnected with unsent data.
    DisconnectWithData "tcp_disconnect_with_data" "SK_RST_REASON_TCP_DISCONNECT_WITH_DATA";
}

impl ResetReason {
    /// The reason with this number of synfin's; `None` if this version does not know it.
    pub const fn from_number(number: u8) -> Option<Self> {
        if (number as usize) < Self::COUNT { Some(Self::ALL[number as usize]) } else { None }
    }
}
