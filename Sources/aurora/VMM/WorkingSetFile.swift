import CLinux
import Groups
import Linux

/// Which pages a guest touched first after it went on from a checkpoint of a history, in their order.
///
/// The next restore from that history fetches them ahead. It is a hint and no more: without it, or with that of another checkpoint, a
/// restore is slower and just as right. So the file is neither made durable nor checked beyond its form.
struct WorkingSetFile {
    /// Pages that are kept: what a thread fetches in some tens of milliseconds.
    static let pagesMax = 4096
    private static let signature = Array("AURWSET1".utf8)

    private let directory: String
    private let path: String

    /// Names the file of a stream.
    init(of stream: String, in data: DataDirectory) {
        directory = data.workingSetsPath
        // The names of streams have slashes, which no file name has, and no spaces.
        path = "\(directory)/\(stream.split(separator: "/").joined(separator: " "))"
    }

    /// The pages; none when nothing was written, or it is not understood.
    func read() -> [UInt32] {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY) else { return [] }
        var bytes = [UInt8](repeating: 0, count: Self.signature.count + Self.pagesMax * 4)
        let count = clinux_read(file.rawValue, &bytes, bytes.count)
        guard count >= Self.signature.count, bytes.starts(with: Self.signature) else { return [] }
        return bytes.withUnsafeBytes { bytes in
            stride(from: Self.signature.count, to: count - 3, by: 4).map {
                UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt32.self))
            }
        }
    }

    /// Replaces the pages.
    ///
    /// - Throws: `SystemError` when nothing can be written there.
    func write(_ pages: [UInt32]) throws(SystemError) {
        try DataDirectory.create(directory)
        var bytes = Self.signature
        for page in pages.prefix(Self.pagesMax) { withUnsafeBytes(of: page.littleEndian) { bytes.append(contentsOf: $0) } }
        // Several groups may go on from the same history at once.
        let temporary = "\(path).\(getpid())"
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
            let written = try systemCall("write", temporary) { clinux_write(file.rawValue, bytes, bytes.count) }
            guard written == bytes.count else { throw SystemError("write", temporary, errno: .noSpace) }
            try systemCall("rename", temporary) { clinux_rename(temporary, path) }
        } catch {
            _ = clinux_unlink(temporary)
            throw error
        }
    }

    /// Forgets the pages.
    func remove() { _ = clinux_unlink(path) }

    /// What to fetch ahead the next time: what was fetched this time, and what the guest had to wait for all the same.
    ///
    /// When that becomes too much, what was waited for comes first: what is no longer touched then falls off the end.
    static func merge(_ known: [UInt32], touched: [UInt32]) -> [UInt32] {
        var seen = Set(known)
        let added = touched.filter { seen.insert($0).inserted }
        if known.count + added.count <= pagesMax { return known + added }
        return Array((added + known).prefix(pagesMax))
    }
}
