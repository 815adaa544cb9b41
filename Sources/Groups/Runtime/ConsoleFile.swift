internal import CLinux
internal import Linux
import Synchronization

/// The guest's console on disk, bounded: a guest that prints for ever fills no disk.
final class ConsoleFile: Sendable {
    /// The file starts over after so many bytes.
    static let bytesMax = 4 << 20

    private let file: SharedDescriptor
    private let written = Mutex<Int64>(0)

    init(path: String) throws(SystemError) {
        file = SharedDescriptor(try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC))
    }

    func append(_ bytes: UnsafeRawBufferPointer) {
        let base = bytes.baseAddress
        let count = bytes.count
        // The buffer cannot cross into the lock's closure as itself; its bytes are only read here and now.
        nonisolated(unsafe) let source = base
        let descriptor = file.rawValue
        written.withLock { written in
            if written + Int64(count) > ConsoleFile.bytesMax {
                _ = clinux_ftruncate(descriptor, 0)
                written = 0
            }
            let result = clinux_pwrite(descriptor, source, count, written)
            if result > 0 { written += Int64(result) }
        }
    }
}
