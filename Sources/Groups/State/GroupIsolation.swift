/// What keeps the programs of one guest apart from their kernel, and so from each other (docs/threat-model.md).
public enum GroupIsolation: String, Codable, Sendable, Hashable, CaseIterable {
    /// Nothing: kernel and programs share one address space of a pv guest.
    case shared
    /// The guest's kernel, by the processor's privileges: an hvm guest.
    case hardware

    /// What holds in a guest that runs in a mode (`GroupStatus.mode`); nil before it has booted.
    public init?(mode: String?) {
        switch mode {
        case "pv": self = .shared
        case "hvm": self = .hardware
        default: return nil
        }
    }

    /// What it means for whoever runs programs there, in a sentence.
    public var meaning: String {
        switch self {
        case .shared:
            "Every process, of whatever user, is root in its guest: it may read and write all of its guest's memory, the kernel's included."
        case .hardware: "The guest's kernel keeps processes apart from itself and from each other."
        }
    }
}
