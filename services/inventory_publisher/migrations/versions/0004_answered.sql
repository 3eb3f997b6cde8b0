-- What was answered long ago is thrown away with what is left of its order.
CREATE INDEX reservations_answered ON reservations (answered_at);
