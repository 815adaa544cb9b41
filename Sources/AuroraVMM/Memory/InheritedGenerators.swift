/// Generators of random numbers that programs keep in their own memory, found in the pages of a checkpoint and made to draw a new seed.
///
/// Everybody who goes on from a checkpoint finds such a generator in the same state, and would give the same keys away. The kernel's
/// generator is told of a restore; a library's is not, but it draws a new seed from the kernel by itself when its last one is too old.
/// So that is what its pages say when they are handed to a guest, whichever process they belong to and however the library came
/// into it: it has used up its requests, and its seed is of 1970. What is written in the checkpoint stays as it was.
///
/// A generator is known by a run of fields whose values follow from its source: limits, counters and times, more than 300 bits that
/// must fit. Only these two fields are written, and nothing is read of what is secret.
public enum InheritedGenerators {
    /// Expires the generators in pages of guest memory.
    ///
    /// - Parameter pages: whole pages, aligned to words; each is looked at by itself.
    /// - Returns: how many were found that were not expired before.
    @discardableResult
    public static func expire(in pages: UnsafeMutableRawBufferPointer) -> Int {
        guard let base = pages.baseAddress, UInt(bitPattern: base).isMultiple(of: UInt(MemoryLayout<UInt64>.alignment)) else { return 0 }
        var found = 0
        for page in 0..<pages.count / pageBytes {
            let words = (base + page * pageBytes).assumingMemoryBound(to: UInt64.self)
            found += expire(GeneratorWords(base: words))
        }
        return found
    }

    private static func expire(_ page: GeneratorWords) -> Int {
        var found = 0
        for place in 0..<OpenSSLGenerator.limits where OpenSSLGenerator.isCut(in: page, at: place) {
            OpenSSLGenerator.expire(in: page, at: place)
            found += 1
        }
        // Nearly all pages have none of these words, so this loop is what it costs: 0.4 µs a page.
        let (lengthMax, constant, end) = (OpenSSLGenerator.lengthMax, GnuTLSGenerator.constant.0, GeneratorWords.count)
        var index = 0
        while index < end {
            let word = page.base[index]
            if word == lengthMax, OpenSSLGenerator.isWhole(in: page, at: index &+ 1) {
                OpenSSLGenerator.expire(in: page, at: index &+ 1)
                found &+= 1
            } else if word == constant, GnuTLSGenerator.isWhole(in: page, at: index) {
                found &+= GnuTLSGenerator.expire(in: page, at: index)
            }
            index &+= 1
        }
        return found
    }
}

/// A page of guest memory as words.
struct GeneratorWords {
    static let count = pageBytes / MemoryLayout<UInt64>.size
    let base: UnsafeMutablePointer<UInt64>

    /// The lower half of a word.
    func low(_ index: Int) -> UInt64 { base[index] & 0xffff_ffff }
    /// The upper half of a word.
    func high(_ index: Int) -> UInt64 { base[index] >> 32 }
    /// Whether a word is the time of a seed in seconds: of 2001 or later.
    func isTime(_ index: Int) -> Bool { base[index] >= 1_000_000_000 && base[index] < 1 << 33 }
}

/// The state of a generator of OpenSSL 1.1.1, 3 and 4.
///
/// The middle of `rand_drbg_st` and `prov_drbg_st` is the same in all of them. Words by their distance from that of the counter:
///
/// | word | |
/// |--:|---|
/// | -7 | bytes of a request, at most: 65,536 |
/// | -6 … -1 | bytes of entropy, least and most, of a nonce, least and most, of a personalization and of other input, most |
/// | 0 | requests since the seed; after how many a new one is drawn (256 or 65,536) |
/// | 1 | time of the seed |
/// | 2 | after how many seconds a new one is drawn (3,600 or 420) |
/// | 3 | number of the seed, and of the next, which in 1.1.1 goes ahead |
/// | 4 | number of the parent's seed, from OpenSSL 3 on |
/// | 5, 6 | bytes of a seed; state (without word 4 one earlier) |
enum OpenSSLGenerator {
    /// Words with limits before the counter.
    static let limits = 7
    /// What a length may be at most, where there is no other limit.
    static let lengthMax: UInt64 = 0x7fff_ffff
    private static let requestBytesMax: UInt64 = 1 << 16
    /// What a least length is at most, and a seed.
    private static let shortMax: UInt64 = 1 << 10
    /// What an application may set.
    private static let requestsMax: UInt64 = 1 << 24
    private static let secondsMax: UInt64 = 1 << 20
    private static let seedsMax: UInt64 = 1 << 28
    /// What it is unless an application sets it.
    private static let usualRequests: [UInt64] = [1 << 8, 1 << 16]
    private static let usualSeconds: [UInt64] = [420, 3600]

    /// Whether a generator has its limits and its counter on a page, and what else of it lies there fits.
    static func isWhole(in page: GeneratorWords, at place: Int) -> Bool {
        guard place >= limits, place < GeneratorWords.count else { return false }
        return hasLimits(page, place, 7) && isCount(page, place) && isSeed(page, place)
    }

    /// Whether a generator's counter and all that follows lie on a page, while its first limits are on the page before.
    static func isCut(in page: GeneratorWords, at place: Int) -> Bool {
        guard place < limits, hasLimits(page, place, place), isCount(page, place), isSeed(page, place) else { return false }
        guard usualRequests.contains(page.high(place)), usualSeconds.contains(page.base[place + 2]) else { return false }
        return isEnd(page, place + 4) || (page.high(place + 4) == 0 && isEnd(page, place + 5))
    }

    /// Sets the counter above each limit and the time to the beginning: either will do where the other is on the next page.
    static func expire(in page: GeneratorWords, at place: Int) {
        page.base[place] = page.high(place) << 32 | lengthMax
        if place + 1 < GeneratorWords.count { page.base[place + 1] = 0 }
    }

    /// Whether the last so many words before the counter are limits.
    private static func hasLimits(_ page: GeneratorWords, _ place: Int, _ count: Int) -> Bool {
        for back in 0..<count {
            let word = page.base[place - 1 - back]
            switch back {
            case 3, 5: guard word <= shortMax else { return false }
            case 6: guard word == requestBytesMax else { return false }
            default: guard word == lengthMax else { return false }
            }
        }
        return true
    }

    private static func isCount(_ page: GeneratorWords, _ place: Int) -> Bool {
        (1...requestsMax).contains(page.high(place)) && page.low(place) <= requestsMax
    }

    /// Whether what lies on the page of times and numbers fits.
    private static func isSeed(_ page: GeneratorWords, _ place: Int) -> Bool {
        let end = GeneratorWords.count
        if place + 1 < end, !page.isTime(place + 1) { return false }
        if place + 2 < end, page.base[place + 2] > secondsMax { return false }
        return place + 3 >= end || (page.low(place + 3) <= page.high(place + 3) && page.high(place + 3) <= seedsMax)
    }

    private static func isEnd(_ page: GeneratorWords, _ index: Int) -> Bool {
        (16...shortMax).contains(page.base[index]) && page.low(index + 1) <= 2
    }
}

/// The state of a generator of GnuTLS 3.6 and later.
///
/// `prng_ctx_st` has the state of ChaCha20 (words 0 to 7), the bytes drawn since the seed, the number of forks, and the time of the
/// seed, after which two or four hours may pass. A thread has two, one behind the other: so where one is cut by the end of a page, the
/// other lies whole on the same page and says what the rest is.
enum GnuTLSGenerator {
    /// "expand 32-byte k", with which such a state begins.
    static let constant: (UInt64, UInt64) = (0x3320_646e_6170_7865, 0x6b20_6574_7962_2d32)
    private static let bytesMax: UInt64 = 1 << 25
    private static let bytesAt = 8
    private static let forksAt = 9
    private static let timeAt = 10
    private static let words = 11
    /// More bytes than any generator gives away without a new seed (16 MiB).
    private static let bytesSpent: UInt64 = 1 << 26

    /// Whether all of a generator lies on a page.
    static func isWhole(in page: GeneratorWords, at place: Int) -> Bool {
        place + timeAt < GeneratorWords.count && page.base[place + 1] == constant.1 && page.base[place + bytesAt] <= bytesMax
            && page.high(place + forksAt) == 0 && page.isTime(place + timeAt)
    }

    /// Sets the time of a whole generator to the beginning, and expires what lies on the page of its twin, if that is cut.
    ///
    /// - Returns: how many were expired.
    static func expire(in page: GeneratorWords, at place: Int) -> Int {
        page.base[place + timeAt] = 0
        return 1 + expireBefore(page, place) + expireBehind(page, place + words)
    }

    /// The twin's end, on the page from its beginning on.
    private static func expireBefore(_ page: GeneratorWords, _ place: Int) -> Int {
        guard (1..<words).contains(place), page.isTime(place - 1) else { return 0 }
        if place >= 2, page.high(place - 2) != 0 { return 0 }
        if place >= 3, page.base[place - 3] > bytesMax { return 0 }
        page.base[place - 1] = 0
        return 1
    }

    /// The twin's beginning, up to the end of the page: it has to reach to the count of its bytes.
    private static func expireBehind(_ page: GeneratorWords, _ place: Int) -> Int {
        guard place + timeAt >= GeneratorWords.count, place + bytesAt < GeneratorWords.count, page.base[place] == constant.0,
            page.base[place + 1] == constant.1, page.base[place + bytesAt] <= bytesMax
        else { return 0 }
        if place + forksAt < GeneratorWords.count, page.high(place + forksAt) != 0 { return 0 }
        page.base[place + bytesAt] = bytesSpent
        return 1
    }
}
