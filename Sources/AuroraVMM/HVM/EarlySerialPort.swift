/// As much of a 16550 serial port as the kernel's early console needs: it takes bytes and is always ready for the next.
///
/// The kernel prints here until the virtio console takes over, so that an early failure is seen. It never interrupts and has
/// no input.
struct EarlySerialPort {
    /// The ports of the PC's first serial port.
    static let ports: ClosedRange<UInt16> = 0x3f8...0x3ff

    private enum Register {
        static let data: UInt16 = 0
        static let lineControl: UInt16 = 3
        static let lineStatus: UInt16 = 5
    }
    /// Both the holding and the shift register are empty.
    private static let ready: UInt8 = 0x60
    private static let divisorLatch: UInt8 = 0x80
    /// The register that chooses what the others mean.
    var lineControl: UInt8 = 0

    /// What the guest reads at a port of `ports`.
    func read(_ port: UInt16) -> UInt8 {
        switch port - EarlySerialPort.ports.lowerBound {
        case Register.lineStatus: EarlySerialPort.ready
        case Register.lineControl: lineControl
        default: 0
        }
    }

    /// Takes a write at a port of `ports`; the byte printed, if it was one.
    mutating func write(_ port: UInt16, _ value: UInt8) -> UInt8? {
        switch port - EarlySerialPort.ports.lowerBound {
        case Register.data where lineControl & EarlySerialPort.divisorLatch == 0: return value
        case Register.lineControl: lineControl = value
        default: break
        }
        return nil
    }
}
