internal import GuestBlobs

/// The programs that this program brings into its guests: the agent and the PV shim.
public enum GuestPrograms {
    /// Changes when one of them changes: what was booted with others has to be booted anew.
    public static let digest: String = {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for (start, count) in [(aurora_agent_bytes(), Int(aurora_agent_count())), (aurora_pvshim_bytes(), Int(aurora_pvshim_count()))] {
            for byte in UnsafeRawBufferPointer(start: start, count: count) { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        }
        return String(hash, radix: 16)
    }()
}
