public import Linux

/// Why a machine could not be made, started, saved or restored.
public enum MachineError: Error, Hashable, Sendable, CustomStringConvertible {
    /// /dev/kvm cannot be opened or is not what it should be.
    case kvmUnavailable(SystemError)
    /// A system call failed.
    case system(SystemError)
    /// The kernel file cannot be booted: what is wrong with it.
    case kernel(String)
    /// The configuration asks for what cannot be: what, and the limit.
    case configuration(String)
    /// A saved state does not fit this machine: what differs.
    case state(String)
    /// Saved memory cannot be read: which page, and why. What was read before it may be in its place.
    case memory(String)
    /// The guest did something the machine cannot go on from.
    case guest(String)

    /// What failed, on what, and what to do.
    public var description: String {
        switch self {
        case .kvmUnavailable(let error):
            switch error.errno {
            case .noEntry: "\(error). Load KVM (modprobe kvm_intel or kvm_amd), or run where virtualization is offered."
            case .accessDenied, .notPermitted: "\(error). Add the user to the group of \(KVMSystem.path) (usually kvm), or run as root."
            default: "\(error)."
            }
        case .system(let error): error.description
        case .kernel(let problem): "Cannot boot the kernel: \(problem)"
        case .configuration(let problem): "Cannot make the machine: \(problem)"
        case .state(let problem): "Cannot load the state: \(problem)"
        case .memory(let problem): "Cannot read saved memory: \(problem)"
        case .guest(let problem): "The guest failed: \(problem)"
        }
    }
}
