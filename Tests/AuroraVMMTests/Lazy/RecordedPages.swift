import Foundation
import Linux
import Synchronization

@testable import AuroraVMM

/// The memory of a paused machine, copied, as a source of pages; it can be made to fail and to hang.
final class RecordedPages: PageSource, @unchecked Sendable {
    // Safety: the bytes never change after `init`.
    private let bytes: UnsafeMutableRawBufferPointer
    private let isZero: [Bool]
    let pageCount: Int
    struct Behaviour {
        var failing: Set<Int> = []
        var failsAll = false
        var isHeld = false
        var waiting = 0
        var pagesRead = 0
        var reads: [Range<Int>] = []
    }
    let behaviour = Mutex(Behaviour())

    init(_ mappings: [Mapping]) {
        let count = mappings.reduce(0) { $0 + $1.count }
        pageCount = count / pageBytes
        bytes = .allocate(byteCount: count, alignment: pageBytes)
        var offset = 0
        for mapping in mappings {
            UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<offset + mapping.count]).copyMemory(from: .init(mapping.bytes))
            offset += mapping.count
        }
        let all = bytes
        isZero = (0..<pageCount).map { page in
            all[(page * pageBytes)..<((page + 1) * pageBytes)].withMemoryRebound(to: UInt64.self) { $0.allSatisfy { $0 == 0 } }
        }
    }

    deinit { bytes.deallocate() }

    func has(_ page: Int) -> Bool { !isZero[page] }

    func read(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        behaviour.withLock { $0.waiting += 1 }
        while behaviour.withLock({ $0.isHeld }) { usleep(200) }
        let bad = behaviour.withLock { behaviour in
            behaviour.waiting -= 1
            behaviour.pagesRead += count
            behaviour.reads.append(page..<page + count)
            return (page..<page + count).first { behaviour.failsAll || behaviour.failing.contains($0) }
        }
        if let bad { throw PageSourceError(page: bad, reason: "checksum does not match") }
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[(page * pageBytes)..<((page + count) * pageBytes)]))
    }

    /// The pages of other memory of the same size that hold something else.
    func differences(from mappings: [Mapping]) -> [Int] {
        var result: [Int] = []
        var firstPage = 0
        for mapping in mappings {
            for page in 0..<(mapping.count / pageBytes) {
                let place = UnsafeRawBufferPointer(rebasing: bytes[((firstPage + page) * pageBytes)..<((firstPage + page + 1) * pageBytes)])
                guard let base = place.baseAddress else { continue }
                if memcmp(base, mapping.base + page * pageBytes, pageBytes) != 0 { result.append(firstPage + page) }
            }
            firstPage += mapping.count / pageBytes
        }
        return result
    }
}
