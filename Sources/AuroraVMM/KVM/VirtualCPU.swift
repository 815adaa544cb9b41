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
    /// The table of `setCPUID`, which comes before the vCPU runs, and its bytes.
    private(set) var cpuid = CPUIDTable(capacity: 0)
    private(set) var cpuidBytes = KernelBytes(CPUIDTable(capacity: 0).bytes)
    /// What KVM can leave in the run page when the vCPU leaves the guest (`KVM_CAP_SYNC_REGS`).
    private let registersOffered: UInt64
    /// Whether the run page holds registers and events as they are now.
    ///
    /// Changed by the vCPU's thread, or while it is parked.
    var registersAreInRunPage = false
    /// The model-specific registers that a checkpoint holds; nil: not found out yet.
    ///
    /// Changed while the vCPU is parked.
    var savedRegisters: [UInt32]?
    private let mapping: Mapping
    /// Bytes of the run page and what follows it.
    var runBytes: Int { mapping.count }

    /// Bytes of `KVM_GET_XSAVE`, which hosts without AMX also use.
    static let legacyXSAVEBytes = 4096
    /// More than any processor needs today.
    static let xsaveBytesMax = 64 << 10

    init(
        descriptor: consuming OwnedDescriptor, runBytes: Int, extendedRegisterBytes: Int, registersOffered: Int
    ) throws(MachineError) {
        // All that are defined, or none.
        let all = UInt64(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)
        let isOffered = UInt64(registersOffered) & all == all && runBytes >= MemoryLayout<kvm_run>.size
        self.registersOffered = isOffered ? all : 0
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

    /// Has KVM leave registers and events in the run page at the next exits, which saves a checkpoint three requests, or not any more.
    func leaveRegisters(_ isOn: Bool) { run.pointee.kvm_valid_regs = isOn ? registersOffered : 0 }

    /// Notes how the exit went after which the vCPU parks.
    func noteExit(_ result: Int) { registersAreInRunPage = registersOffered != 0 && result == -Int(EINTR) }

    /// Bytes of the run page's registers: `kvm_regs`, `kvm_sregs`, `kvm_vcpu_events`.
    func leftRegisters(from offset: Int, count: Int) -> KernelBytes {
        KernelBytes(Array(UnsafeRawBufferPointer(start: ckvm_left_registers(run) + offset, count: count)))
    }

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
        registersAreInRunPage = false
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
        cpuidBytes = KernelBytes(table.bytes)
        savedRegisters = nil
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
