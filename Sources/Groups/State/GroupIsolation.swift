/// What a group was asked for: how its programs are kept apart from their kernel.
public enum IsolationSetting: String, Codable, Sendable, Hashable, CaseIterable {
    /// As the guest's mode has it for nothing.
    case shared
    /// Also in a pv guest, for some microseconds a system call.
    case strict

    /// The label of an image that says it for its groups.
    public static let label = "aurora.isolation"
}

/// What keeps the programs of one guest apart from their kernel, and so from each other (docs/threat-model.md).
public enum GroupIsolation: String, Codable, Sendable, Hashable, CaseIterable {
    /// Nothing: kernel and programs share one address space of a pv guest.
    case shared
    /// Page tables of their own for the programs of a pv guest.
    case strict
    /// The guest's kernel, by the processor's privileges: an hvm guest.
    case hardware

    /// What holds in a guest that runs in a mode (`GroupStatus.mode`); nil before it has booted.
    public init?(mode: String?, setting: IsolationSetting?) {
        switch mode {
        case "pv": self = setting == .strict ? .strict : .shared
        case "hvm": self = .hardware
        default: return nil
        }
    }

    /// What it means for whoever runs programs there, in a sentence.
    public var meaning: String {
        switch self {
        case .shared:
            "Every process, of whatever user, is root in its guest: it may read and write all of its guest's memory, the kernel's included."
        case .strict: "The guest's kernel keeps processes apart from itself and from each other, by page tables of their own."
        case .hardware: "The guest's kernel keeps processes apart from itself and from each other."
        }
    }
}
