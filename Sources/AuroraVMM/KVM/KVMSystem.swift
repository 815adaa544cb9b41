internal import CLinux
import Linux

/// The handle of /dev/kvm: what the host's KVM offers, and where virtual machines come from.
///
/// Source: Documentation/virt/kvm/api.rst of Linux.
public final class KVMSystem: Sendable {
    /// The path of the device.
    public static let path = "/dev/kvm"
    private static let apiVersion = 12

    let descriptor: OwnedDescriptor
    /// Bytes of the `kvm_run` mapping of a vCPU.
    let runBytes: Int

    /// Opens /dev/kvm.
    ///
    /// - Throws: `MachineError.kvmUnavailable` with the remedy.
    public init() throws(MachineError) {
        do throws(SystemError) {
            let descriptor = try OwnedDescriptor.open(KVMSystem.path, O_RDWR)
            let number = descriptor.rawValue
            let version = try systemCall("ask the version of", KVMSystem.path) { clinux_ioctl(number, CKVM_GET_API_VERSION, 0) }
            guard version == KVMSystem.apiVersion else {
                throw SystemError("use", "\(KVMSystem.path) of version \(version)", errno: .invalidArgument)
            }
            runBytes = try systemCall("ask the run size of", KVMSystem.path) { clinux_ioctl(number, CKVM_GET_VCPU_MMAP_SIZE, 0) }
            self.descriptor = descriptor
        } catch {
            throw .kvmUnavailable(error)
        }
    }

    /// The value of a capability (`KVM_CAP_*`); zero when the host lacks it.
    public func capability(_ number: Int32) -> Int {
        max(0, clinux_ioctl(descriptor.rawValue, CKVM_CHECK_EXTENSION, UInt(number)))
    }

    /// Creates a virtual machine.
    ///
    /// - Throws: `MachineError.system` when the host has no room.
    func createVirtualMachine() throws(MachineError) -> VirtualMachine {
        let number = descriptor.rawValue
        let machine = try machineCall("create a virtual machine with", KVMSystem.path) { clinux_ioctl(number, CKVM_CREATE_VM, 0) }
        return VirtualMachine(system: self, descriptor: OwnedDescriptor(adopting: Int32(machine)))
    }

    /// The CPUID leaves that KVM can offer a guest (`KVM_GET_SUPPORTED_CPUID`).
    ///
    /// - Throws: `MachineError.system` for a host that answers with an error.
    func supportedCPUID() throws(MachineError) -> CPUIDTable {
        var table = CPUIDTable(capacity: CPUIDTable.entriesMax)
        let number = descriptor.rawValue
        try machineCall("read the CPUID table of", KVMSystem.path) {
            table.withUnsafeBytes { clinux_ioctl(number, CKVM_GET_SUPPORTED_CPUID, UInt(bitPattern: $0.baseAddress)) }
        }
        return table
    }
}

/// `systemCall` with the machine's error type.
@inline(__always) @discardableResult
func machineCall(
    _ operation: @autoclosure () -> String, _ subject: @autoclosure () -> String = "", _ body: () -> Int
) throws(MachineError) -> Int {
    do throws(SystemError) {
        return try systemCall(operation(), subject(), body)
    } catch {
        throw .system(error)
    }
}
