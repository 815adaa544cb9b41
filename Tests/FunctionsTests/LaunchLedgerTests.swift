import Testing

@testable import Functions

/// Which launch images are in use, and what they take.
struct LaunchLedgerTests {
    @Test func whatIsClaimedIsInUseUntilTheLastClaimIsReleased() {
        var ledger = LaunchLedger()
        ledger.claim("a")
        ledger.claim("a")
        ledger.release("a")
        #expect(ledger.isInUse("a") && !ledger.isInUse("b"))
        ledger.release("a")
        #expect(!ledger.isInUse("a"))
        // One release too many claims nothing.
        ledger.release("a")
        ledger.claim("a")
        #expect(ledger.isInUse("a"))
    }

    @Test func bytesAreOfWhatIsThere() {
        var ledger = LaunchLedger()
        for (digest, bytes) in [("a", 10), ("b", 20), ("c", 30), ("nothing", 0)] { ledger.note(digest, bytes: bytes) }
        #expect(ledger.bytes == 60 && ledger.count == 3)
        // "c" was made while others were removed.
        ledger.claim("c")
        ledger.note(kept: ["b": 21], removed: ["a"])
        #expect(ledger.bytes == 51 && ledger.evicted == 1 && ledger.bytes(of: "a") == nil)
        ledger.keep(["b"])
        #expect(ledger.bytes == 51)
        ledger.release("c")
        ledger.keep(["b"])
        #expect(ledger.bytes == 21)
    }

    @Test func theDiskIsToldNowAndThen() {
        var ledger = LaunchLedger()
        var told: [Bool] = []
        for (digest, now) in [("a", 0), ("a", 9_999_999_999), ("b", 9_999_999_999), ("a", 10_000_000_000)] as [(String, Int64)] {
            told.append(ledger.mustNote(digest, now: now))
        }
        #expect(told == [true, false, true, true])
    }
}
