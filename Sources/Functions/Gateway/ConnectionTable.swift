/// Who is connected, and who has to go when there are too many.
///
/// A plain value without sockets, so that the rules can be tested on their own. Nobody needs a token to connect: a place that is only
/// held is given to the next who comes, and one address does not get all of them.
struct ConnectionTable<Connection: Sendable>: Sendable {
    /// What a new connection gets.
    enum Admission: Sendable {
        /// A place; the one that was idle for longest gives its own, if there was none left.
        case taken(instead: Connection?)
        /// None: all are being served.
        case refused
    }

    private struct Place {
        var connection: Connection
        var address: String
        /// Since when nothing was asked; nil while a request is read or answered.
        var idleSince: UInt64?
        /// Whether anything was asked yet: who never did goes first.
        var isProven = false
    }

    private let limits: GatewayLimits
    private var places: [UInt64: Place] = [:]
    private var counts: [String: Int] = [:]
    private var last: UInt64 = 0

    init(limits: GatewayLimits) { self.limits = limits }

    /// Open connections.
    var count: Int { places.count }
    /// All of them.
    var all: [Connection] { places.values.map(\.connection) }

    /// A new connection; the number by which it is known from now on.
    mutating func add(_ connection: Connection, from address: String, isLoopback: Bool) -> (number: UInt64, admission: Admission) {
        last += 1
        let room = limits.connectionsMax - (isLoopback ? 0 : min(limits.connectionsOfHost, limits.connectionsMax / 2))
        var victim: UInt64?
        if counts[address, default: 0] >= limits.connectionsPerAddressMax {
            victim = oldestIdle { $0.address == address }
            if victim == nil { return (last, .refused) }
        } else if places.count >= room {
            victim = oldestIdle { _ in true }
            if victim == nil { return (last, .refused) }
        }
        let instead = victim.flatMap { take($0) }
        places[last] = Place(connection: connection, address: address, idleSince: last)
        counts[address, default: 0] += 1
        return (last, .taken(instead: instead))
    }

    /// A request has begun, or the last one is over.
    mutating func note(_ number: UInt64, isIdle: Bool) {
        last += 1
        places[number]?.idleSince = isIdle ? last : nil
        if !isIdle { places[number]?.isProven = true }
    }

    /// A connection is closed.
    mutating func remove(_ number: UInt64) { _ = take(number) }

    mutating func take(_ number: UInt64) -> Connection? {
        guard let place = places.removeValue(forKey: number) else { return nil }
        let left = counts[place.address, default: 1] - 1
        counts[place.address] = left > 0 ? left : nil
        return place.connection
    }

    private func oldestIdle(_ isWanted: (Place) -> Bool) -> UInt64? {
        var best: (number: UInt64, isProven: Bool, since: UInt64)?
        for (number, place) in places {
            guard let since = place.idleSince, isWanted(place) else { continue }
            if let found = best, (found.isProven ? 1 : 0, found.since) < (place.isProven ? 1 : 0, since) { continue }
            best = (number, place.isProven, since)
        }
        return best?.number
    }
}
