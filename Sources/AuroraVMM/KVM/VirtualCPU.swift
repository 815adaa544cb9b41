internal import CLinux
import Linux
import Synchronization

/// A vCPU of KVM and its `kvm_run` page.
///
/// `@unchecked Sendable`: KVM serializes the requests; the run page is read by the thread that ran the vCPU, and the one
/// field that others write, `immediate_exit`, is an atomic byte.
final class VirtualCPU: @unchecked Sendable {
    let descriptor: OwnedDescriptor
    /// Bytes of `KVM_GET_XSAVE2`: what the host's registers need.
    let extendedRegisterBytes: Int
    /// The table of `setCPUID`, which comes before the vCPU runs.
    private(set) var cpuid = CPUIDTable(capacity: 0)
    private let mapping: Mapping
    /// Bytes of the run page and what follows it.
    var runBytes: Int { mapping.count }

    /// Bytes of `KVM_GET_XSAVE`, which hosts without AMX also use.
    static let legacyXSAVEBytes = 4096
    /// More than any processor needs today.
    static let xsaveBytesMax = 64 << 10

    init(descriptor: consuming OwnedDescriptor, runBytes: Int, extendedRegisterBytes: Int) throws(MachineError) {
        self.extendedRegisterBytes = min(max(extendedRegisterBytes, VirtualCPU.legacyXSAVEBytes), VirtualCPU.xsaveBytesMax)
        do throws(SystemError) {
            mapping = try Mapping.file(descriptor, count: runBytes, shared: true, what: "the run page of a vCPU")
        } catch {
            throw .system(error)
        }
        self.descriptor = descriptor
    }

    /// What the last exit was; valid after `run()` until it is called again.
    var run: UnsafeMutablePointer<kvm_run> { mapping.base.assumingMemoryBound(to: kvm_run.self) }

    /// The bytes of the run page, for port data that lies beyond the structure.
    var runPage: UnsafeMutableRawPointer { mapping.base }

    private var immediateExit: UnsafeMutablePointer<Atomic<UInt8>> {
        (mapping.base + 1).assumingMemoryBound(to: Atomic<UInt8>.self)  // kvm_run.immediate_exit
    }

    /// Makes the next entry into the guest return at once.
    func requestExit() { immediateExit.pointee.store(1, ordering: .releasing) }

    /// Takes back `requestExit`.
    func clearExitRequest() { immediateExit.pointee.store(0, ordering: .releasing) }

    /// Takes back `requestExit`, and sees whatever its caller wrote before it.
    func takeExitRequest() { _ = immediateExit.pointee.exchange(0, ordering: .acquiringAndReleasing) }

    /// Runs the guest until it needs the VMM.
    ///
    /// Answers zero, or -errno (-EINTR when interrupted).
    @inline(__always)
    func enter() -> Int { clinux_ioctl(descriptor.rawValue, CKVM_RUN, 0) }

    /// Reads a structure of the vCPU.
    ///
    /// - Throws: `MachineError.system`.
    func get<Value>(_ request: UInt, _ initial: Value, _ what: @autoclosure () -> String) throws(MachineError) -> Value {
        var value = initial
        let number = descriptor.rawValue
        try machineCall("read \(what()) of", "a vCPU") {
            withUnsafeMutablePointer(to: &value) { clinux_ioctl(number, request, UInt(bitPattern: $0)) }
        }
        return value
    }

    /// Writes a structure of the vCPU.
    ///
    /// - Throws: `MachineError.system`.
    func set<Value>(_ request: UInt, _ value: Value, _ what: @autoclosure () -> String) throws(MachineError) {
        var value = value
        let number = descriptor.rawValue
        try machineCall("write \(what()) of", "a vCPU") {
            withUnsafeMutablePointer(to: &value) { clinux_ioctl(number, request, UInt(bitPattern: $0)) }
        }
    }

    /// Sets the CPUID table the guest sees.
    ///
    /// - Throws: `MachineError.system`.
    func setCPUID(_ table: CPUIDTable) throws(MachineError) {
        var table = table
        let number = descriptor.rawValue
        try machineCall("write the CPUID table of", "a vCPU") {
            table.withUnsafeBytes { clinux_ioctl(number, CKVM_SET_CPUID2, UInt(bitPattern: $0.baseAddress)) }
        }
        cpuid = table
    }

    /// The TSC's frequency, in kHz.
    ///
    /// - Throws: `MachineError.system`.
    func tscKilohertz() throws(MachineError) -> UInt64 {
        let number = descriptor.rawValue
        return UInt64(try machineCall("read the TSC frequency of", "a vCPU") { clinux_ioctl(number, CKVM_GET_TSC_KHZ, 0) })
    }

    /// Reads one model-specific register; nil when KVM does not have it.
    func readMSR(_ index: UInt32) -> UInt64? {
        var words = VirtualCPU.msrRequest(index, 0)
        let number = descriptor.rawValue
        let result = words.withUnsafeMutableBytes { clinux_ioctl(number, CKVM_GET_MSRS, UInt(bitPattern: $0.baseAddress)) }
        return result == 1 ? words[2] : nil
    }

    /// Writes one model-specific register; false when KVM refuses it.
    @discardableResult
    func writeMSR(_ index: UInt32, _ value: UInt64) -> Bool {
        var words = VirtualCPU.msrRequest(index, value)
        let number = descriptor.rawValue
        return words.withUnsafeMutableBytes { clinux_ioctl(number, CKVM_SET_MSRS, UInt(bitPattern: $0.baseAddress)) } == 1
    }

    /// kvm_msrs: count and padding, then (index, reserved, data).
    private static func msrRequest(_ index: UInt32, _ value: UInt64) -> [UInt64] { [1, UInt64(index), value] }
}
