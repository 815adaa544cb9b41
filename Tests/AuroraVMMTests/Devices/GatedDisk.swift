import CLinux
import Linux
import Synchronization

@testable import AuroraVMM

/// A disk in memory whose reads can be held up.
final class GatedDisk: BlockBackend, @unchecked Sendable {
    // Safety: the device calls one at a time; the rest is atomic.
    private let bytes: UnsafeMutableRawBufferPointer
    let isReadOnly = false
    /// While set, a read waits for the end of that.
    let isHeld = Atomic(false)
    /// Whether a read waits.
    let isWaiting = Atomic(false)
    /// Bytes of all reads, writes, and cleared ranges.
    let moved = Atomic<Int64>(0)
    let cleared = Atomic<Int64>(0)
    private let claimedBytes: Int64

    /// - Parameter claimed: the size told to the guest, which only clears what is beyond `byteCount`.
    init(byteCount: Int, claimed: Int64? = nil) {
        bytes = .allocate(byteCount: byteCount, alignment: pageBytes)
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
        claimedBytes = claimed ?? Int64(byteCount)
    }

    deinit { bytes.deallocate() }

    var byteCount: Int64 { claimedBytes }

    private func pass(_ count: Int) {
        moved.add(Int64(count), ordering: .relaxed)
        guard isHeld.load(ordering: .acquiring) else { return }
        isWaiting.store(true, ordering: .releasing)
        while isHeld.load(ordering: .acquiring) { usleep(200) }
        isWaiting.store(false, ordering: .releasing)
    }

    func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        pass(buffers.byteCount)
        var position = Int(offset)
        buffers.forEach { buffer in
            buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[position..<position + buffer.count]))
            position += buffer.count
        }
    }

    func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        moved.add(Int64(buffers.byteCount), ordering: .relaxed)
        var position = Int(offset)
        buffers.forEach { buffer in
            UnsafeMutableRawBufferPointer(rebasing: bytes[position..<position + buffer.count]).copyMemory(
                from: UnsafeRawBufferPointer(buffer))
            position += buffer.count
        }
    }

    func flush() throws(SystemError) {}
    func writeZeroes(at offset: Int64, count: Int64, mayFree: Bool) throws(SystemError) { cleared.add(count, ordering: .relaxed) }
    func discard(at offset: Int64, count: Int64) throws(SystemError) { cleared.add(count, ordering: .relaxed) }
}
