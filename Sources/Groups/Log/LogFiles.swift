internal import CLinux
internal import Linux

/// The files of a log: the current one, its predecessor `.1`, and how often they were rotated (`.rotations`, a number), which is how
/// a reader knows what it has missed.
struct LogFiles: Sendable {
    /// The current file.
    let path: String
    /// What was the current file before it.
    var formerPath: String { "\(path).1" }
    private var countPath: String { "\(path).rotations" }
    /// A number has no more digits.
    private static let countBytesMax = 20

    /// Puts the current file in the place of its predecessor; the writer then makes a new one.
    ///
    /// While there is no current file, the number may not belong to the predecessor yet.
    func rotate() {
        let count = rotations &+ 1
        _ = clinux_rename(path, formerPath)
        // Not made durable, as the log is not: a reader of the same host sees it.
        guard let file = try? OwnedDescriptor.open(countPath, O_WRONLY | O_CREAT) else { return }
        let digits = Array("\(count)".utf8)
        _ = clinux_pwrite(file.rawValue, digits, digits.count, 0)
    }

    /// How often the log was rotated: the number of the current file, counted from zero.
    var rotations: UInt64 {
        guard let bytes = try? DurableFile.read(countPath, bytesMax: LogFiles.countBytesMax) else { return 0 }
        return UInt64(String(decoding: bytes, as: UTF8.self)) ?? 0
    }

    /// One of the files, open.
    final class OpenFile {
        let descriptor: OwnedDescriptor
        let identity: Int
        /// Files before it in the log's whole life.
        let number: UInt64

        init(_ descriptor: consuming OwnedDescriptor, number: UInt64) {
            identity = Int(clinux_file_identity(descriptor.rawValue))
            self.descriptor = descriptor
            self.number = number
        }
    }

    /// Both files as they were at one moment; nil while they are being rotated, or when there is no log yet.
    func open() throws(SystemError) -> (former: OpenFile?, current: OpenFile)? {
        let count = rotations
        guard let current = try LogFiles.open(path, count) else { return nil }
        let former = try LogFiles.open(formerPath, count &- 1)
        // Nothing was rotated meanwhile if the number and the current file are still the same.
        guard rotations == count, Int(clinux_path_identity(path)) == current.identity, former?.identity != current.identity else {
            return nil
        }
        return (former, current)
    }

    private static func open(_ path: String, _ number: UInt64) throws(SystemError) -> OpenFile? {
        let result = clinux_open(path, O_RDONLY | O_CLOEXEC, 0)
        if result == -Int(ENOENT) { return nil }
        return OpenFile(OwnedDescriptor(adopting: Int32(try systemCall("open", path) { Int(result) })), number: number)
    }

    /// Whether a file is still the one that is written to.
    func isCurrent(_ file: OpenFile) -> Bool { Int(clinux_path_identity(path)) == file.identity }
}
