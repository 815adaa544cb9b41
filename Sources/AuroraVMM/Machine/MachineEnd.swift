/// Why a machine does not run any more.
public enum MachineEnd: Hashable, Sendable {
    /// The guest powered itself off.
    case powerOff
    /// The guest asked for a reboot.
    case reboot
    /// The guest's kernel panicked or reported a crash; the last lines of the console say why.
    case panic(consoleTail: [String])
    /// The processor gave up: a fault while delivering a fault.
    case tripleFault(consoleTail: [String])
    /// The machine could not go on: what happened.
    case failed(String)
    /// `stop()` was called.
    case stopped
}
