internal import CLinux

/// A port access of a guest, as KVM left it in the run page (`KVM_EXIT_IO`).
struct PortAccess {
    let port: UInt16
    let isWrite: Bool
    private let size: Int
    private let bytes: UnsafeMutableRawBufferPointer

    /// Every size the processor has; string instructions repeat it.
    private static let sizes = [1, 2, 4]
    /// KVM transfers at most a page at once.
    private static let transferBytesMax = pageBytes

    /// The access of the vCPU's last exit; nil if KVM describes none that fits its page.
    init?(_ cpu: VirtualCPU) {
        let access = cpu.run.pointee.io
        let count = Int(access.count)
        size = Int(access.size)
        guard PortAccess.sizes.contains(size), count > 0, count <= PortAccess.transferBytesMax / size else { return nil }
        guard access.data_offset <= UInt64(cpu.runBytes), count * size <= cpu.runBytes - Int(access.data_offset) else { return nil }
        port = access.port
        isWrite = access.direction == UInt8(KVM_EXIT_IO_OUT)
        bytes = UnsafeMutableRawBufferPointer(start: cpu.runPage + Int(access.data_offset), count: count * size)
    }

    /// The lowest byte of each unit written.
    var written: [UInt8] { stride(from: 0, to: bytes.count, by: size).map { bytes[$0] } }

    /// Answers each unit of a read with this byte, the rest of it zero.
    func answer(_ value: UInt8) { for index in bytes.indices { bytes[index] = index % size == 0 ? value : 0 } }

    /// Answers as a bus does where no device is.
    func answerNothing() { for index in bytes.indices { bytes[index] = 0xff } }
}
