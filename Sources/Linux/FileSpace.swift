internal import CLinux

/// `fallocate`, which a signal may interrupt.
public enum FileSpace {
    /// A file system in memory gives back all that an interrupted call had allocated: a large one, beside signals at short intervals,
    /// would never be done.
    private static let pieceBytes: Int64 = 1 << 20

    /// Allocates a range of a file (mode 0), piece by piece, or calls `fallocate` with another mode once.
    ///
    /// - Returns: 0, or the negative error number of `fallocate`; never that of an interruption.
    public static func allocate(_ file: Int32, mode: Int32 = 0, at offset: Int64, count: Int64) -> Int {
        var done: Int64 = 0
        while true {
            let length = mode == 0 ? min(count - done, pieceBytes) : count
            let result = Int(clinux_fallocate(file, mode, offset + done, length))
            if result == -Int(EINTR) { continue }
            if result < 0 { return result }
            done += length
            if done >= count { return 0 }
        }
    }
}
