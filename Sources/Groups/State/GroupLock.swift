internal import CLinux
public import Linux

/// The lock by which everyone sees whether a group's VMM lives: it belongs to the open file, so the kernel lets go of it
/// when the last process that holds the descriptor ends, however it ends.
public struct GroupLock: ~Copyable, Sendable {
    private let descriptor: OwnedDescriptor

    /// The locked descriptor's number, to be passed to the VMM process.
    public var rawValue: Int32 { descriptor.rawValue }

    /// Adopts a locked descriptor that another process passed.
    public init(adopting descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }

    /// Writes down who holds the lock: this process, so that it can be ended whatever else of the group is damaged.
    public borrowing func noteHolder() {
        let text = Array("\(getpid())\n".utf8)
        _ = clinux_ftruncate(descriptor.rawValue, 0)
        _ = clinux_pwrite(descriptor.rawValue, text, text.count, 0)
    }

    /// The process that holds the lock of a file, as it wrote down itself; nil when none does, or none is named.
    public static func holder(_ path: String) -> Int32? {
        guard (try? isHeld(path)) == true, let bytes = try? DurableFile.read(path, bytesMax: holderBytesMax) else { return nil }
        let process = Int32(String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
        return process.flatMap { $0 > 1 ? $0 : nil }
    }

    /// A process number and a line's end are shorter.
    private static let holderBytesMax = 32

    /// Lets go of the lock now rather than at the end of the owner's scope.
    public consuming func release() {}

    /// Takes the lock of a file, made if need be; nil when another holds it.
    ///
    /// - Throws: `SystemError` when the file cannot be opened or locked.
    public static func take(_ path: String) throws(SystemError) -> GroupLock? {
        let descriptor = try OwnedDescriptor.open(path, O_RDWR | O_CREAT, mode: 0o600)
        let number = descriptor.rawValue
        let result = clinux_lock_take(number)
        if result == -Int(EAGAIN) || result == -Int(EACCES) { return nil }
        try systemCall("lock", path) { Int(result) }
        // Whoever held it before is named there.
        _ = clinux_ftruncate(number, 0)
        return GroupLock(adopting: descriptor)
    }

    /// Whether some process holds the lock.
    ///
    /// Asking takes nothing, so that those who ask never disturb each other.
    ///
    /// - Throws: `SystemError` when the file is there but cannot be asked.
    public static func isHeld(_ path: String) throws(SystemError) -> Bool {
        let result = clinux_open(path, O_RDONLY | O_CLOEXEC, 0)
        if result == -Int(ENOENT) { return false }
        let descriptor = OwnedDescriptor(adopting: Int32(try systemCall("open", path) { Int(result) }))
        let number = descriptor.rawValue
        return try systemCall("ask for the lock of", path) { clinux_lock_is_held(number) } == 1
    }
}
