%% Writes onto every notehead and staff of an SVG page what it means.
%%
%% LilyPond reads this before the score.  A notehead's group gets class "duet-note" and: the number of its score in the
%% file; when it is struck, in whole notes, main and grace time apart; its place in the bar; its length; its sounding
%% MIDI pitch; the tempo in whole notes a minute (#f where the layout says none); whether a tie leads to it.  Both
%% kinds of group get a number of their staff, the line of music they stand on, as the span of its columns, and their
%% box in staff spaces, y upwards.

#(define duet-scores 0)

#(define (duet-attribute name value)
  (cons name (format #f "~a" value)))

%% Known only once lines are broken: these two are called when a page is drawn.
#(define (duet-line grob)
  (let ((columns (ly:grob-spanned-column-rank-interval (ly:grob-system grob))))
   (duet-attribute 'data-line (format #f "~a-~a" (car columns) (cdr columns)))))

#(define (duet-box grob)
  (let ((x (ly:grob-extent grob grob X))
        (y (ly:grob-extent grob grob Y)))
   (duet-attribute 'data-box (format #f "~,4f ~,4f ~,4f ~,4f" (car x) (car y) (cdr x) (cdr y)))))

#(define (duet-tagger context)
  (set! duet-scores (1+ duet-scores))
  (let ((score (duet-attribute 'data-score duet-scores))
        (staves (make-hash-table))
        (continued (make-hash-table))
        (ties '()))
   (define (staff-number symbol)
     (duet-attribute 'data-staff
      (and (ly:grob? symbol)
           (hashq-ref staves (or (ly:grob-original symbol) symbol)))))
   (make-engraver
    (acknowledgers
     ((note-head-interface engraver grob source)
      (let* ((cause (ly:grob-property grob 'cause))
             (is-note (and (ly:stream-event? cause) (ly:in-event-class? cause 'note-event)))
             (pitch (and is-note (ly:event-property cause 'pitch #f))))
       (if (ly:pitch? pitch)
        (let* ((now (ly:context-current-moment context))
               (place (ly:context-property context 'measurePosition ZERO-MOMENT))
               (tempo (ly:context-property context 'tempoWholesPerMinute #f))
               (length (ly:event-property cause 'length ZERO-MOMENT))
               (meaning
                (list
                 (cons 'class "duet-note")
                 score
                 (duet-attribute 'data-onset (ly:moment-main now))
                 (duet-attribute 'data-grace (ly:moment-grace now))
                 (duet-attribute 'data-place (ly:moment-main place))
                 (duet-attribute 'data-length (ly:moment-main length))
                 (duet-attribute 'data-grace-length (ly:moment-grace length))
                 (duet-attribute 'data-pitch (+ 60 (ly:pitch-semitones pitch)))
                 (duet-attribute 'data-tempo (if (ly:moment? tempo) (ly:moment-main tempo) tempo)))))
         (ly:grob-set-property! grob 'output-attributes
          (lambda (grob)
           (append meaning
            (list
             (staff-number (ly:grob-object grob 'staff-symbol #f))
             (duet-attribute 'data-tied (if (hashq-ref continued grob) 1 0))
             (duet-line grob)
             (duet-box grob)))))))))
     ((tie-interface engraver grob source)
      (set! ties (cons grob ties)))
     ((staff-symbol-interface engraver grob source)
      (hashq-set! staves grob (hash-count (const #t) staves))
      (ly:grob-set-property! grob 'output-attributes
       (lambda (grob)
        (list (cons 'class "duet-staff") score (staff-number grob) (duet-line grob) (duet-box grob))))))
    ;; Only now has every tie both its ends.
    ((finalize engraver)
     (for-each
      (lambda (tie)
       (let ((head (ly:spanner-bound tie RIGHT)))
        (if (ly:grob? head)
         (hashq-set! continued head #t))))
      ties)))))

\layout { \context { \Score \consists #duet-tagger } }
