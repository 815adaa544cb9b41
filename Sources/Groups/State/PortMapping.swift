/// A TCP port of the guest published on the host.
public struct PortMapping: Hashable, Sendable, Codable, CustomStringConvertible {
    /// The host address of the listener as dotted text.
    public var hostAddress: String
    /// The host port; zero lets the kernel choose.
    public var hostPort: UInt16
    /// The port in the guest.
    public var guestPort: UInt16

    /// Published ports are for this host alone unless the user names an address: a group's service, often without a password,
    /// must not become reachable from the network by accident.
    public static let defaultHostAddress = "127.0.0.1"

    /// Describes a published port.
    public init(hostAddress: String = PortMapping.defaultHostAddress, hostPort: UInt16, guestPort: UInt16) {
        self.hostAddress = hostAddress
        self.hostPort = hostPort
        self.guestPort = guestPort
    }

    /// Reads `HOST:GUEST` or `ADDRESS:HOST:GUEST`.
    ///
    /// - Throws: `GroupError` (`.invalidValue`).
    public init(parsing text: String) throws(GroupError) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let remedy = "Write HOST:GUEST or ADDRESS:HOST:GUEST, for example 8080:80 or 0.0.0.0:8080:80."
        guard parts.count == 2 || parts.count == 3, let host = UInt16(parts[parts.count - 2]), let guest = UInt16(parts[parts.count - 1]),
            guest != 0
        else { throw GroupError(.invalidValue, "Invalid port \"\(text.prefix(80))\"", remedy: remedy) }
        let address = parts.count == 3 ? parts[0] : PortMapping.defaultHostAddress
        guard PortMapping.number(of: address) != nil else {
            throw GroupError(.invalidValue, "Invalid address \"\(address.prefix(80))\" in port \"\(text.prefix(80))\"", remedy: remedy)
        }
        self.init(hostAddress: address, hostPort: host, guestPort: guest)
    }

    /// `ADDRESS:HOST->GUEST`, as container tools write it.
    public var description: String { "\(hostAddress):\(hostPort)->\(guestPort)/tcp" }

    /// The IPv4 address as a number in the byte order of the host.
    public var hostAddressNumber: UInt32? { PortMapping.number(of: hostAddress) }

    private static func number(of address: String) -> UInt32? {
        let parts = address.split(separator: ".", omittingEmptySubsequences: false).map { UInt8($0) }
        guard parts.count == 4 else { return nil }
        var number: UInt32 = 0
        for part in parts {
            guard let part else { return nil }
            number = number << 8 | UInt32(part)
        }
        return number
    }
}
