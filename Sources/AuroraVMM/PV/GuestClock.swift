internal import CLinux
import Linux

/// The guest's clock: a paravirtual time page that turns the TSC into nanoseconds (pvclock ABI), so that a guest reads
/// time without leaving, and a restore on a host of another frequency only needs another multiplier.
struct GuestClock: Sendable, Equatable, Codable {
    /// The guest's TSC at `systemTime`.
    var tsc: UInt64
    /// Nanoseconds since the guest's boot at `tsc`.
    var systemTime: UInt64
    /// Multiplier of (TSC difference << shift), as a fraction of 2^32.
    let multiplier: UInt32
    /// Shift of the TSC difference before it is multiplied.
    let shift: Int8

    private static let nanosecondsPerSecond: UInt64 = 1_000_000_000

    /// The clock of a guest that starts now.
    init(tscKilohertz: UInt64, tsc: UInt64, systemTime: UInt64) {
        self.tsc = tsc
        self.systemTime = systemTime
        // ns = (ticks << shift) * multiplier / 2^32, with a multiplier that uses all its bits.
        var shift: Int8 = 0
        var frequency = max(1, tscKilohertz) * 1000
        while frequency > GuestClock.nanosecondsPerSecond * 2 {
            frequency >>= 1
            shift -= 1
        }
        while frequency <= GuestClock.nanosecondsPerSecond {
            frequency <<= 1
            shift += 1
        }
        multiplier = UInt32(truncatingIfNeeded: (GuestClock.nanosecondsPerSecond << 32) / frequency)
        self.shift = shift
    }

    /// The clock's reading at a TSC value.
    func nanoseconds(at tsc: UInt64) -> UInt64 {
        let ticks = tsc &- self.tsc
        let scaled = shift >= 0 ? ticks << UInt64(shift) : ticks >> UInt64(-shift)
        return systemTime &+ scaled.multipliedFullWidth(by: UInt64(multiplier)).high << 32
            &+ scaled.multipliedFullWidth(by: UInt64(multiplier)).low >> 32
    }

    /// A `pvclock_vcpu_time_info`: version, TSC, time, multiplier, shift, and the flag that the TSC is stable.
    ///
    /// - Parameter version: even, and another one than that of the page it replaces: by it a reader finds out that it has read
    ///   parts of two pages, and reads again.
    func page(version: UInt32) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 32)
        func put(_ value: UInt64, _ offset: Int, _ count: Int) {
            for index in 0..<count { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index)) }
        }
        put(UInt64(version), 0, 4)
        put(tsc, 8, 8)
        put(systemTime, 16, 8)
        put(UInt64(multiplier), 24, 4)
        bytes[28] = UInt8(bitPattern: shift)
        bytes[29] = 1  // PVCLOCK_TSC_STABLE_BIT
        return bytes
    }
}
